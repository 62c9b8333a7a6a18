"""`errorcast user`."""

from pathlib import Path
from typing import Annotated

import typer

Option = typer.Option


def user(
    name: Annotated[str, typer.Argument(help="Name of the user: letters, digits, _ . @ -")],
    users: Annotated[
        Path, Option(help="The file that serve --users reads; made if there is none.")
    ],
    token_file: Annotated[
        Path, Option(help="New file for the user's token; give it to the user, for --token-file.")
    ],
    upload: Annotated[
        bool, Option("--upload", help="May upload code, which runs as the service's account.")
    ] = False,
    workers: Annotated[
        int | None, Option(help="Most workers of all this user's running jobs together.", min=1)
    ] = None,
    admin: Annotated[
        bool, Option("--admin", help="May upload code, and change the jobs of all users.")
    ] = False,
) -> None:
    """Add a user of a service: make a token, and write its hash into the file of users."""
    from coordinator.service.new_user import add_user
    from coordinator.service.users import User

    add_user(users, User(name, admin, upload, workers), token_file)
    print(f"{users} has the user {name}; the token is in {token_file}")
