"""The embedded digits, but only a few of each class: runs that execute everything need not execute it often."""

import shutil
from pathlib import Path

from components.ingestion.digits import write_digits


def write_few_digits(folder: Path, per_class: int) -> Path:
    """Writes the first `per_class` images of every digit into class folders in `folder`, which must not exist yet."""
    every = folder.with_name(f".every-{folder.name}")
    write_digits(str(every))
    for label in (path for path in sorted(every.iterdir()) if path.is_dir()):
        (folder / label.name).mkdir(parents=True)
        for image in sorted(label.iterdir())[:per_class]:
            shutil.copy(image, folder / label.name)
    shutil.rmtree(every)
    return folder
