"""Options of installed tasks that name files or folders."""

from collections.abc import Mapping

# relative ones start in the job's working_dir; a service confines them to its data folders
PATH_OPTIONS: Mapping[str, tuple[str, ...]] = {"causal-lm": ("model", "text")}
