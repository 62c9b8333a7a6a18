"""`errorcast tasks`."""


def tasks() -> None:
    """List the installed tasks, one in a line."""
    from dfa_tasks import INSTALLED

    width = max(map(len, INSTALLED))
    for name, installed in INSTALLED.items():
        print(f"{name:{width}}  {installed.about}")
