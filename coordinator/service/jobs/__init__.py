"""The life of a job: its states, its record in SQLite, admission, and the supervisor."""
