"""`errorcast tasks`."""


def tasks() -> None:
    """List the installed tasks, each with its network and data.

    Examples:
        errorcast tasks
        errorcast train digits
    """
    from coordinator.cli.terminal import Terminal
    from coordinator.experiments.text.layout import Column
    from coordinator.experiments.text.table import TextTable
    from dfa_tasks import INSTALLED

    rows = [(name, installed.about) for name, installed in INSTALLED.items()]
    Terminal().print(TextTable("", [Column(""), Column("")], rows))
