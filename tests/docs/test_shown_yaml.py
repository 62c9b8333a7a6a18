"""The YAML that the documents show is read by the code that reads job files."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support.documents import DOCUMENTS, blocks
from support.pages import name_of

from coordinator.job.checks import check_settings
from coordinator.job.resolve import resolve
from coordinator.job.settings import DEFAULTS, decode
from coordinator.job.spec import merge, parse, read_yaml

SHOWN = [
    pytest.param(path, code, id=f"{name_of(path)}-{number}")
    for path in DOCUMENTS
    for number, code in enumerate(blocks(path, "yaml"), 1)
]
KUBERNETES = "apiVersion"
OF_OTHERS = ("scrape_configs",)  # Prometheus


@pytest.mark.parametrize(("document", "code"), SHOWN)
def test_a_shown_file_is_what_it_says(
    document: Path, code: str, tmp_path: Path, all_data: Path
) -> None:
    documents = list(yaml.safe_load_all(code))
    assert documents
    if any(isinstance(one, dict) and KUBERNETES in one for one in documents):
        for one in documents:
            kubernetes_validate.validate(one, "1.33", strict=True)
    elif not any(name in one for one in documents for name in OF_OTHERS):
        (tmp_path / "job.yaml").write_text(code, encoding="utf-8")
        check_job(read_yaml(tmp_path / "job.yaml"), str(all_data))


def check_job(settings: dict[str, Any], data_dir: str) -> None:
    """Resolve a whole job; of a part of one, check what needs no task. Raises JobError."""
    if "task" in settings:
        task = settings.pop("task")
        resolve(task, {"data_dir": data_dir, **settings})
    else:
        check_settings(decode(parse(merge(DEFAULTS, settings))))
