"""Version 1 of errorcast's messages."""
