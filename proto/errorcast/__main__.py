"""The command `errorcast`, and `python -m errorcast`."""


def main() -> None:
    """Run the command line."""
    from coordinator.cli.main import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
