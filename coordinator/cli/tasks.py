"""`errorcast tasks`."""


def tasks() -> None:
    """List what can be trained by name, one line each."""
    from dfa_tasks import INSTALLED

    width = max(map(len, INSTALLED))
    for name, installed in INSTALLED.items():
        print(f"{name:{width}}  {installed.about}")
