"""What tables say about the images: labels and splits, and further columns as slices of the evaluation.

The convention is that of Hugging Face's ImageFolder (https://huggingface.co/docs/datasets/image_dataset): in any folder
`metadata.csv` or `metadata.jsonl`, with a column `file_name` relative to that folder. Other column names, other
dialects and other ways to write a path are accepted, with a note, if only one reading is possible.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from components.ingestion import slice_features
from components.ingestion.file_names import claims_picture
from components.ingestion.image_folder import ListedFile, read_bytes_of
from components.ingestion.layouts.named_files import FileNames, Found
from components.ingestion.layouts.split_names import split_called
from components.ingestion.layouts.tables import read_table
from core.errors import InputError, some

FILE_NAME, LABEL, SPLIT = "file_name", "label", "split"
COLUMNS = (FILE_NAME, LABEL, SPLIT)
"""What `data.columns` may name."""

_USUAL = {
    FILE_NAME: "filename filenames file files filepath filepaths image images imagename imagefile imagefilename "
    "imagepath img imgname imgfile imgpath path paths picture photo imageid imgid idcode id url imageurl imgurl",
    LABEL: "label labels labelname labelid class classes classname classid category categoryname categoryid target "
    "species breed choice",
    SPLIT: "split splits set subset partition dataset datasplit usage phase",
}
"""What people call these columns, in lower case and without separators between words."""

_MISSING = frozenset(("nan", "NaN", "NAN", "NaT", "<NA>", "#N/A", "NULL"))
"""What pandas, Excel and databases write for a missing value; None and NA may be classes."""

_INDEX = "Unnamed: 0"  # the numbers of the rows, as pandas writes them
_FLAGS = frozenset(("0", "1", "0.0", "1.0", "true", "false", "yes", "no"))
_ONES = frozenset(("1", "1.0", "true", "yes"))
_SAMPLE = 1000  # rows that decide which column holds file names
_SHOWN = 3


class UnclearSplitsError(InputError):
    """A table of images gives splits in a way that is not understood: without them test images would be trained on."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The columns that become slices, and path -> column -> value."""

    columns: tuple[str, ...] = ()
    rows: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def values(self, path: str) -> dict[str, str]:
        """Column -> value for one file; empty if the file has no row, or its row lacks that column."""
        row = self.rows.get(path, {})
        return {column: row.get(column, "") for column in self.columns}


@dataclasses.dataclass
class Rows:
    """What the tables of a data folder say about its files.

    Attributes:
        labels: path -> label; empty if the row has none.
        splits: path -> split, from tables that have such a column, or are named after a split.
        lines: path -> table and line, such as `metadata.csv, line 3`.
        problems: path -> why its rows cannot be used.
        missing: a reject for each row without a file.
        metadata: the other columns.
        notes: what was guessed or is odd, for the first lines of a run.
    """

    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    splits: dict[str, str] = dataclasses.field(default_factory=dict)
    lines: dict[str, str] = dataclasses.field(default_factory=dict)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: list[ListedFile] = dataclasses.field(default_factory=list)
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    notes: list[str] = dataclasses.field(default_factory=list)


class LabelTable:
    """A table in a data folder, and which of its columns hold file names, labels and splits."""

    def __init__(self, folder: str, name: str, told: Mapping[str, str | None], files: FileNames) -> None:
        """Reads it.

        Args:
            folder: the data folder.
            name: the table, relative to it.
            told: `data.columns`; None for a column that does not exist.
            files: those in the data folder.

        Raises:
            InputError: it cannot be read; `told` names a column that it lacks; or several columns could be meant.
        """
        self.name = name
        self.folder = files.nearest(name.rpartition("/")[0], self.own_split)
        self._files = files
        self._told = told
        self.table = read_table(f"{folder}/{name}", read_bytes_of(folder, name), self._fits)
        self._check_told()
        self.file_name = self._find_file_name()
        if self.file_name is None:
            self._check_no_row()
        self.split = self._find_split() if self.file_name is not None else None
        self.label = self._find_label() if self.file_name is not None else None
        if self.label is None and LABEL not in told and not files.in_class_folders and self.names_images():
            self._read_one_hot()

    @property
    def own_split(self) -> str:
        """The split that it is named after, as in `train.csv`; else ""."""
        return split_called(self.name.rpartition("/")[2].partition(".")[0])

    @property
    def where(self) -> str:
        """Its path, for messages."""
        return self.table.where

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names."""
        return self.table.columns

    @property
    def named_columns(self) -> list[str]:
        """Those that have a name."""
        return list(filter(None, self.columns))

    def names_images(self) -> bool:
        """Whether at least half of its first rows name a file."""
        return self.file_name is not None and self._hits(self.file_name) >= 0.5

    def guesses_label(self) -> bool:
        """Whether neither the settings nor the usual name say which column holds labels."""
        return not self._told.get(LABEL) and self.label is not None and self.columns[self.label].casefold() != LABEL

    def is_empty(self) -> bool:
        """Whether it has no row."""
        return next(iter(self.table.rows()), None) is None

    def why_not(self) -> str:
        """Why it is not used for labels, to go behind its name."""
        columns = some(self.named_columns) or "none"
        if self.file_name is None and any(self.find(name).path for name in self.named_columns):
            return f"has no first line that names its columns ({columns}): put one before it, such as file_name,label"
        what = "no column of file names" if self.file_name is None else "no column of labels"
        if self.file_name is not None and (ones := self._one_hot()):
            hot = some([self.columns[at] for at in ones])
            what += f", but a 1 in one of {hot} in each row: write the name of that column into a column label"
        if self.file_name is not None and not self.names_images():
            row = next(iter(self.table.rows()), None)
            if row is None:
                return "has no rows"
            example = row[1][self.file_name] if self.file_name < len(row[1]) else ""
            like = self._files.like(example)
            hint = f"; did you mean {like}?" if like else ""
            return f"names other files (line {row[0]}: {example}: {self.find(example).problem}{hint})"
        return (
            f"has {what}; its columns are {columns} (read as {self.table.written}). A first line must name "
            "the columns, and data.columns may say which is which, e.g. {file_name: id, label: kind}"
        )

    def describe(self, with_label: bool) -> str:
        """How it was understood."""
        held = {"file names": self.file_name, "labels": self.label if with_label else None, "splits": self.split}
        roles = ", ".join(f"{what} in {self.columns[at]}" for what, at in held.items() if at is not None)
        slices = [self.columns[at] for at in self.slices(with_label)]
        return f"({self.table.written}): {roles}" + (f"; slices: {some(slices)}" if slices else "")

    def slices(self, with_label: bool) -> list[int]:
        """The columns that become slices: those that have a name, and not that of what every image has."""
        taken = {self.file_name, self.split, self.label if with_label else None}
        return [
            at
            for at, name in enumerate(self.columns)
            if name and at not in taken and name not in (*slice_features.NAMES, LABEL, _INDEX)
        ]

    def _fits(self, columns: Sequence[str]) -> int:
        names = [name.strip() for name in columns]
        return sum(any(self._may_be(role, name) for name in names) for role in COLUMNS)

    def _may_be(self, role: str, name: str) -> bool:
        if self._told.get(role):
            return name == self._told[role]
        return role not in self._told and re.sub(r"[\W_]+", "", name.casefold()) in _USUAL[role].split()

    def _check_told(self) -> None:
        for role, name in self._told.items():
            if name and name not in self.columns:
                raise InputError(
                    f"data.columns.{role} is {name!r}; the columns of {self.where} are {some(self.named_columns)}."
                )
        doubled = [name for name, times in collections.Counter(self.columns).items() if name and times > 1]
        if doubled:
            raise InputError(f"{self.where} has several columns {some(doubled)}. Give each a name of its own.")

    def _candidates(self, role: str) -> list[int]:
        return [at for at, name in enumerate(self.columns) if self._may_be(role, name)]

    def _find_file_name(self) -> int | None:
        candidates = self._candidates(FILE_NAME)
        if len(candidates) > 1:
            likely = max(candidates, key=self._claims)
            candidates = [at for at in candidates if self._hits(at) >= 0.5] or [likely]
        if len(candidates) > 1:
            sample = list(itertools.islice(self.table.rows(), _SAMPLE))
            found = {tuple(self.find(row[at]).path for _, row in sample if at < len(row)) for at in candidates}
            if len(found) > 1:
                raise self._several(FILE_NAME, candidates)
        return candidates[0] if candidates else None

    def _find_label(self) -> int | None:
        candidates = [at for at in self._candidates(LABEL) if at not in (self.file_name, self.split)]
        if len(candidates) > 1 and not self._say_the_same(candidates):
            raise self._several(LABEL, candidates)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        texts = [at for at in candidates if not all(row[at].isdigit() for _, row in self.table.rows() if at < len(row))]
        return (texts or candidates)[0]

    def _say_the_same(self, columns: Sequence[int]) -> bool:
        """Whether each value of one goes with just one value of the other, like a class's number and its name."""
        pairs = {tuple(row[at] for at in columns) for _, row in self.table.rows() if len(row) == len(self.columns)}
        return all(len({pair[at] for pair in pairs}) == len(pairs) for at in range(len(columns)))

    def _find_split(self) -> int | None:
        """Finds a column of splits by its name and its values, since one named `set` may be something else."""
        candidates = []
        for at in self._candidates(SPLIT):
            values = {row[at] for _, row in self.table.rows() if at < len(row)} - {""}
            unknown = sorted(value for value in values if not split_called(value))
            named = self._told.get(SPLIT) or self.columns[at].casefold() in (SPLIT, "partition", "subset")
            if values and (len(unknown) < len(values) or named):
                if unknown:
                    raise (UnclearSplitsError if self.names_images() else InputError)(
                        f"{self.where}: {self.columns[at]} seems to say which split an image belongs to, and "
                        f"{some(unknown)} is none of train, val and test. Write these there; or, if it means something "
                        "else, set data.columns.split to null."
                    )
                candidates.append(at)
        if len(candidates) > 1 and not self._say_the_same(candidates):
            raise self._several(SPLIT, candidates)
        if not candidates and SPLIT not in self._told and self.names_images():
            self._check_no_flag()
        return candidates[0] if candidates else None

    def _check_no_row(self) -> None:
        """Raises InputError if the first line already is an image and its split, as in Vertex AI's import files."""
        if any(map(split_called, self.named_columns)) and any(self.find(name).path for name in self.named_columns):
            raise UnclearSplitsError(
                f"{self.where}: its first line ({some(self.named_columns)}) names an image and a split where it must "
                "name the columns. Put a line before it, such as split,file_name,label; or pass over the table with "
                "data.ignore."
            )

    def _check_no_flag(self) -> None:
        """Raises InputError if a column is a flag for a split, such as `is_test`: its images would end up in train."""
        flags = [at for at, name in enumerate(self.columns) if split_called(re.sub(r"^is[\W_]*", "", name.casefold()))]
        for at in flags:
            if self.values(at) <= _FLAGS:
                raise UnclearSplitsError(
                    f"{self.where}: {self.columns[at]} seems to say which images are of a split. Write a column split "
                    "with train, val and test; or, if it means something else, set data.columns.split to null."
                )

    def values(self, column: int) -> set[str]:
        """The values in lower case, without the empty one."""
        return {row[column].casefold() for _, row in self.table.rows() if column < len(row)} - {""}

    def _one_hot(self) -> list[int]:
        """The columns of zeros and ones, two or more, if just one of them is 1 in each row."""
        taken = (self.file_name, self.split)
        columns = [at for at, name in enumerate(self.columns) if name and at not in taken and self.values(at) <= _FLAGS]
        rows = (row for _, row in self.table.rows() if len(row) == len(self.columns))
        return columns if len(columns) > 1 and all(len(_ones(row, columns)) == 1 for row in rows) else []

    def _read_one_hot(self) -> None:
        """Has the first of such columns hold the name of the one that is 1, and be the labels."""
        hot, names, table = self._one_hot(), self.columns, self.table
        if not hot:
            return

        def labeled() -> Iterator[tuple[int, list[str]]]:
            for line, row in table.rows():
                full = len(row) == len(names)
                yield line, [*row[: hot[0]], names[_ones(row, hot)[0]], *row[hot[0] + 1 :]] if full else row

        called = dict.fromkeys(hot, "") | {hot[0]: f"{some([names[at] for at in hot], shown=3)} (a 1 in one of them)"}
        columns = tuple(called.get(at, name) for at, name in enumerate(names))
        self.table, self.label = dataclasses.replace(table, columns=columns, rows=labeled), hot[0]

    def _several(self, role: str, candidates: Sequence[int]) -> InputError:
        names = [self.columns[at] for at in candidates]
        return InputError(
            f"{self.where}: {some(names)} could each be the column {role}. Say which: data.columns: "
            f"{{{role}: {names[0]}}}."
        )

    def find(self, name: str) -> Found:
        """The file that a row means."""
        return self._files.find(name, self.folder)

    def ignored_by(self, name: str) -> str:
        """The pattern of `data.ignore` that ignores the file that a row means."""
        return self._files.ignored_by(name, self.folder)

    def _hits(self, column: int) -> float:
        """The fraction of the first rows whose value in this column names a file."""
        names = self._first_values(column)
        return sum(bool(self.find(name).path or self.ignored_by(name)) for name in names) / max(len(names), 1)

    def _claims(self, column: int) -> int:
        """How many of the first rows have a name with an image's extension in this column."""
        return sum(map(claims_picture, self._first_values(column)))

    def _first_values(self, column: int) -> list[str]:
        return [row[column] for _, row in itertools.islice(self.table.rows(), _SAMPLE) if column < len(row)]


def why_not(tables: Iterable[LabelTable]) -> list[str]:
    """Why tables are not used for labels: a sentence for those that share the reason."""
    names = collections.defaultdict(list)
    for table in tables:
        names[table.why_not()].append(table.name)
    return [f"{of[0]}{f' (as {some(of[1:])})' if of[1:] else ''} {reason}" for reason, of in names.items()]


def _ones(row: Sequence[str], columns: Iterable[int]) -> list[int]:
    return [at for at in columns if row[at].casefold() in _ONES]


def join(tables: Iterable[LabelTable], files: FileNames, with_labels: bool) -> Rows:
    """Finds the file of every row.

    Raises:
        InputError: most of a table's rows have no file, or they match files in several places; or, without labels, two
            rows of a file differ.
    """
    joined = Rows()
    understood: dict[str, list[str]] = {}
    columns: dict[str, None] = {}
    for table in tables:
        slices = table.slices(with_labels)
        columns |= dict.fromkeys(table.columns[at] for at in slices)
        _join(table, slices, files, with_labels, joined)
        understood.setdefault(table.describe(with_labels), []).append(table.name)
    for description, names in understood.items():
        of = names[0] if len(names) == 1 else f"{len(names):,} tables, {some(names)}"
        joined.notes.insert(0, f"{of} {description}")
    joined.metadata = Metadata(tuple(columns), joined.metadata.rows)
    return joined


def _join(table: LabelTable, slices: Sequence[int], files: FileNames, with_labels: bool, joined: Rows) -> None:
    assert table.file_name is not None
    width, at_file, at_label, at_split = len(table.columns), table.file_name, table.label, table.split
    names = [table.columns[at] for at in slices]
    own_split = table.own_split
    missing: list[tuple[int, str, str, str]] = []
    otherwise: list[tuple[str, str]] = []
    ignored: list[str] = []
    above: dict[str, tuple[int, str]] = {}
    again = total = 0
    for line, values in table.table.rows():
        total += 1
        name = values[at_file] if at_file < len(values) else ""
        found = table.find(name) if name else Found(problem="it names no file")
        path = found.path
        label = values[at_label] if with_labels and at_label is not None and at_label < len(values) else ""
        if label in _MISSING:
            label = ""
        if not path and (pattern := table.ignored_by(name)):
            ignored.append(f"line {line}: {name}: {pattern}")
            continue
        if not path:
            missing.append((line, name, found.problem, label))
            continue
        if not found.exact:
            otherwise.append((name, path))
            if found.above:
                above.setdefault(found.above, (line, name))
        where = f"{table.name}, line {line}"
        if len(values) != width:
            joined.problems[path] = f"{where} has {len(values)} values; the first line names {width} columns"
            continue
        split = split_called(values[at_split]) if at_split is not None else own_split
        row = {column: values[at] for column, at in zip(names, slices, strict=True)}
        if path in joined.lines:
            again += 1
            before = (joined.labels.get(path, ""), joined.splits.get(path, ""))
            if before != (label, split):
                was, now = (", ".join(filter(None, said)) for said in (before, (label, split)))
                joined.problems[path] = f"{joined.lines[path]} says {was!r} and {where} {now!r}"
            elif not with_labels and row != joined.metadata.rows.get(path, {}):
                raise InputError(
                    f"{table.where}, line {line}: a second row for {path}, with other values than {joined.lines[path]}."
                    " Keep one."
                )
            continue
        joined.lines[path] = where
        if with_labels:
            joined.labels[path] = label
        if split:
            joined.splits[path] = split
        elif at_split is not None:
            joined.problems[path] = f"its {table.columns[at_split]} in {where} is empty"
        if row:
            joined.metadata.rows[path] = row
    if len(above) > 1:
        places = [f"line {line}: {name}" for line, name in above.values()]
        raise InputError(
            f"{table.where} names files in {len(above)} folders that are not in the data folder ({some(places)}). "
            "Give the folder that holds these as the data folder, or write paths relative to it."
        )
    if len(missing) > total / 2:
        raise InputError(_mismatch(table, missing, total, files))
    joined.missing += [
        ListedFile(name or f"{table.name}:{line}", "", f"{table.name}, line {line}: {problem}", label)
        for line, name, problem, label in missing
    ]
    if otherwise:
        name, path = otherwise[0]
        joined.notes.append(
            f"{len(otherwise):,} of {total:,} rows of {table.name} write a path otherwise than the folder does: {name} "
            f"is {path}"
        )
    if missing:
        line, name, problem, _ = missing[0]
        joined.notes.append(
            f"{len(missing):,} of {total:,} rows of {table.name} have no file; they count as rejects (line {line}: "
            f"{name}: {problem})"
        )
    if ignored:
        joined.notes.append(
            f"{len(ignored):,} of {total:,} rows of {table.name} are about ignored files ({ignored[0]})"
        )
    if again:
        joined.notes.append(f"{again:,} rows of {table.name} are about files that had a row already")


def _mismatch(table: LabelTable, missing: Sequence[tuple[int, str, str, str]], total: int, files: FileNames) -> str:
    shown = []
    for line, name, problem, _ in missing[:_SHOWN]:
        like = files.like(name)
        shown.append(f"\n    line {line}: {name}: {problem}" + (f"; did you mean {like}?" if like else ""))
    assert table.file_name is not None
    return (
        f"{table.where}: of {len(missing):,} of {total:,} rows there is no file by {table.columns[table.file_name]}:"
        f"{''.join(shown)}\n  Write paths relative to the table's folder or to the data folder; data.columns.file_name "
        "names another column, and data.layout: class_folders goes by the folders."
    )
