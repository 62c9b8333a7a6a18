"""`errorcast user`."""

from pathlib import Path
from typing import Annotated

import typer

Option = typer.Option


def user(
    name: Annotated[str, typer.Argument(help="Name of the user, of letters, digits and _ . @ -")],
    users: Annotated[
        Path, Option(help="File that serve --users reads; it is created if there is none.")
    ],
    token_file: Annotated[
        Path,
        Option(help="New file for the token; give it to the user, who needs it for --token-file."),
    ],
    upload: Annotated[
        bool,
        Option(
            "--upload", help="The user may upload code, which runs with the rights of the service."
        ),
    ] = False,
    workers: Annotated[
        int | None,
        Option(help="Most workers that the user's running jobs may have together.", min=1),
    ] = None,
    admin: Annotated[
        bool, Option("--admin", help="The user may upload code and change the jobs of all users.")
    ] = False,
) -> None:
    """Add a user of the service: make a token, and add its hash to the file of users.

    Examples:
        errorcast user alice --users users.yaml --token-file alice.token
        errorcast user bob --users users.yaml --token-file bob.token --upload --workers 4
    """
    from coordinator.service.new_user import add_user
    from coordinator.service.users import User

    add_user(users, User(name, admin, upload, workers), token_file)
    print(f"added the user {name} to {users}; the token is in {token_file}")
