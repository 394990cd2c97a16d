import os
import pickle
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import dill
import pytest

from components.ingestion import image_folder as image_folder_module
from components.ingestion.image_folder import OUTSIDE, DataFolder, read_file, walk
from components.ingestion.image_reading import RejectedError
from core.errors import InputError

Folders = Callable[..., Path]


def paths(folder: Path) -> list[str]:
    return [file.path for file in walk(str(folder)).files]


def test_lists_everything_below_but_hidden_things(image_folder: Folders) -> None:
    folder = image_folder(cat=2, dog=1)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "a.png").touch()
    (folder / "cat" / ".hidden.png").touch()
    (folder / "cat" / "Thumbs.db").touch()
    (folder / "dog" / "old").mkdir()
    (folder / "dog" / "old" / "UPPER.JPG").touch()
    tree = walk(str(folder))
    assert [file.path for file in tree.files] == ["cat/0000.png", "cat/0001.png", "dog/0000.png", "dog/old/UPPER.JPG"]
    assert tree.folders == ["cat", "dog", "dog/old"]
    assert {one.path: one.reason for one in tree.ignored} == {
        ".cache/": "hidden",
        "cat/.hidden.png": "hidden",
        "cat/Thumbs.db": "left behind by a system",
    }
    assert not any(file.problem for file in tree.files)


def test_names_in_any_script_are_read(tmp_path: Path) -> None:
    names = [
        "日本語.png",
        "кот.png",
        "قطة.png",
        "e\u0301 \U0001f408.png",
        "100 %.png",
        "#1?.png",
        "a\nb.png",
        "'\".png",
        "x" * 200,
    ]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    assert paths(tmp_path) == sorted(names)
    assert all(read_file(str(tmp_path), name) == name.encode() for name in names)


def test_lists_what_cannot_be_read_with_its_problem(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder(cat=1, dog=1)
    Path(os.fsdecode(os.fsencode(folder) + b"/cat/\xff.png")).touch()
    (folder / "dog" / "again").symlink_to(folder)
    problems = {file.path: file.problem for file in walk(str(folder)).files if file.problem}
    assert problems == {
        "cat/\\xff.png": "its name is not UTF-8",
        "dog/again": "it is a link to a folder it is in",
    }


def test_a_folder_that_is_not_there_or_cannot_name_anything_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        walk(str(tmp_path / "nowhere"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).mkdir()
    with pytest.raises(InputError, match=r"The folder \\xff in .* has a name that is not UTF-8"):
        walk(str(tmp_path))


def test_a_hundred_thousand_files_in_one_folder_take_seconds_and_two_kilobytes_each(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for i in range(100_000):
        os.mknod(tmp_path / "cat" / f"{i}.png")
    tracemalloc.start()
    began = time.process_time()
    files = walk(str(tmp_path)).files
    image_folder_module.fingerprint(str(tmp_path), files)
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(files) == 100_000
    assert seconds < 30  # of which most are tracemalloc's own
    assert peak < 100_000 * 2048


def rejected(folder: Path, path: str) -> str:
    with pytest.raises(RejectedError) as error:
        read_file(str(folder), path)
    return str(error.value)


def test_reads_a_file_and_links_within_the_folder(image_folder: Folders) -> None:
    folder = image_folder(cat=1, dog=1)
    (folder / "dog" / "link.png").symlink_to("../cat/0000.png")
    assert read_file(str(folder), "dog/link.png") == (folder / "cat" / "0000.png").read_bytes()


def test_a_linked_data_folder_is_read(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder(cat=1, dog=1)
    (tmp_path / "link").symlink_to(folder)
    assert read_file(str(tmp_path / "link"), "cat/0000.png") == (folder / "cat" / "0000.png").read_bytes()


def test_what_should_not_be_opened_is_rejected(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder(cat=1, dog=1)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "cat" / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "cat" / "broken.png").symlink_to("nowhere.png")
    (folder / "cat" / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "cat" / "pipe.png")
    assert rejected(folder, "cat/out.png") == f"open: it is a link out of the data folder, to {tmp_path}/secret.png"
    assert rejected(folder, "cat/broken.png") == "open: it cannot be opened: No such file or directory"
    assert "open: it cannot be opened" in rejected(folder, "cat/loop.png")
    assert rejected(folder, "cat/pipe.png") == "open: it is not a regular file"
    assert len(paths(folder)) == 6  # Listed all the same: nothing is dropped silently.


def test_a_file_without_permission_is_rejected() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "cat").mkdir()
        (folder / "cat" / "0000.png").write_bytes(b"secret")
        (folder / "cat" / "0000.png").chmod(0)
        was = os.geteuid()
        if was == 0:  # Permissions do not stop root, but do whom it can become.
            os.seteuid(65534)
        try:
            assert rejected(folder, "cat/0000.png") == "open: it cannot be opened: Permission denied"
        finally:
            os.seteuid(was)


def test_a_large_file_is_rejected_unread(image_folder: Folders) -> None:
    folder = image_folder(cat=1, dog=1)
    with (folder / "cat" / "large.bmp").open("wb") as file:
        file.truncate(65 * 2**20)
    assert rejected(folder, "cat/large.bmp") == "limits: 68,157,440 bytes are more than 64 MB"


SYSTEM = [
    "__MACOSX/owl/._0.png", "lost+found/1", "@eaDir/0.png/SYNOFILE_THUMB_M.png", "$RECYCLE.BIN/a.png", "#recycle/a.png",
    "System Volume Information/x", ".ipynb_checkpoints/a.png", ".Trash-1000/files/a.png", "@Recycle/a.png",
    "#snapshot/a",
    ".dropbox.cache/a.png", ".AppleDouble/a.png", "Thumbs.db", "ehthumbs.db", "Icon\r", "desktop.ini", "._a.png",
]  # fmt: skip


@pytest.mark.parametrize("depth", ["", "cat/", "train/cat/"])
def test_what_systems_leave_is_passed_over_at_any_depth(tmp_path: Path, depth: str) -> None:
    for path in SYSTEM:
        (tmp_path / depth / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / depth / path).touch()
    (tmp_path / depth / "kept.png").touch()
    tree = walk(str(tmp_path))
    assert [file.path for file in tree.files] == [f"{depth}kept.png"]
    assert {one.path.removeprefix(depth).split("/")[0] for one in tree.ignored} == {
        path.split("/")[0] for path in SYSTEM
    }


def as_nobody(function: Callable[[], None]) -> None:
    was = os.geteuid()
    if was == 0:  # Permissions do not stop root, but do whom it can become.
        os.seteuid(65534)
    try:
        function()
    finally:
        os.seteuid(was)


def test_a_folder_without_permission_is_told_with_a_way_on_that_works() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for inside in ("cat", "lost+found", "cat/private"):
            (folder / inside).mkdir()
        (folder / "cat" / "0000.png").touch()
        for inside in ("lost+found", "cat/private"):
            (folder / inside).chmod(0)

        def check() -> None:
            with pytest.raises(InputError, match=r'cat/private/ cannot be listed.*data\.ignore to \["/cat/private/"\]'):
                walk(name)
            assert [file.path for file in walk(name, ["/cat/private/"]).files] == ["cat/0000.png"]

        as_nobody(check)


@pytest.mark.parametrize(
    ("pattern", "ignored"),
    [
        ("*.bak", {"a.bak", "cat/b.bak", "cat/old/c.bak"}),
        ("old", {"cat/old/", "old/"}),
        ("old/", {"cat/old/", "old/"}),
        ("/old", {"old/"}),
        ("./old", {"old/"}),
        ("cat/*.png", {"cat/1.png"}),
        ("**/old/*.png", {"cat/old/2.png", "old/3.png"}),
        ("cat/**", {"cat/"}),
        ("#x.png", {"#x.png"}),
        ("[0-9].png", {"cat/1.png", "cat/old/2.png", "old/3.png"}),
        ("*.none", set()),
    ],
)
def test_data_ignore_follows_gitignore_patterns(tmp_path: Path, pattern: str, ignored: set[str]) -> None:
    for path in ("a.bak", "#x.png", "cat/1.png", "cat/b.bak", "cat/old/2.png", "cat/old/c.bak", "old/3.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    tree = walk(str(tmp_path), [pattern])
    assert {one.path for one in tree.ignored} == ignored
    assert {one.reason for one in tree.ignored} <= {f"data.ignore: {pattern}"}


def test_pictures_that_swap_their_names_change_the_fingerprint(image_folder: Folders) -> None:
    folder = image_folder(cat=1, dog=1)
    cat, dog = folder / "cat/0000.png", folder / "dog/0000.png"
    cat.write_bytes(b"1"), dog.write_bytes(b"2")
    for path in (cat, dog):
        os.utime(path, (0, 0))

    def fingerprint() -> str:
        return image_folder_module.fingerprint(str(folder), walk(str(folder)).files)

    before = fingerprint()
    assert fingerprint() == before
    time.sleep(0.01)
    cat.rename(folder / "x"), dog.rename(cat), (folder / "x").rename(dog)
    assert fingerprint() != before


def test_links_that_swap_change_the_fingerprint(image_folder: Folders) -> None:
    folder = image_folder(cat=1, dog=1)
    for name, target in (("a", "cat"), ("b", "dog")):
        (folder / target / f"{name}.png").symlink_to(folder / "dog/0000.png")
    before = image_folder_module.fingerprint(str(folder), walk(str(folder)).files)
    (folder / "cat/a.png").unlink()
    (folder / "cat/a.png").symlink_to(folder / "cat/0000.png")
    assert image_folder_module.fingerprint(str(folder), walk(str(folder)).files) != before


class TestLinks:
    @pytest.fixture
    def folder(self, image_folder: Folders) -> Path:
        return image_folder("photos", cat=2, dog=2)

    def test_a_folder_out_of_the_data_folder_stops_the_run_unless_links_are_followed(
        self, folder: Path, image_folder: Folders
    ) -> None:
        elsewhere = image_folder("elsewhere", swan=3)
        (folder / "swan").symlink_to(elsewhere / "swan")
        with pytest.raises(InputError, match=rf"swan -> {elsewhere}/swan\. Set data\.links to follow"):
            walk(str(folder))
        assert "swan" not in walk(str(folder), ["/swan"]).folders, "the other way on"
        tree = walk(str(folder), links="follow")
        assert [file.path for file in tree.files if file.path.startswith("swan")] == [
            f"swan/000{i}.png" for i in range(3)
        ]
        assert tree.folder.roots == (f"{elsewhere}/swan",)
        assert read_file(tree.folder, "swan/0000.png") == (elsewhere / "swan/0000.png").read_bytes()
        assert not any(file.problem for file in tree.files)

    def test_a_store_by_content_is_read_and_its_root_named(self, folder: Path, tmp_path: Path) -> None:
        for number, path in enumerate(sorted(folder.glob("*/*.png"))):
            if number == 2:
                assert {file.problem.split(", to ")[0] for file in walk(str(folder)).files} == {"", OUTSIDE}
            store = tmp_path / "store" / f"{number:02x}" / "blob"
            store.parent.mkdir(parents=True)
            path.rename(store)
            path.symlink_to(os.path.relpath(store, path.parent))
        with pytest.raises(InputError, match=rf"4 of 4 files in .*links out of it, into {tmp_path}/store/00, "):
            walk(str(folder))
        tree = walk(str(folder), links="follow")
        assert all(read_file(tree.folder, file.path) for file in tree.files) and len(tree.files) == 4
        assert rejected(folder, "cat/0000.png").startswith("open: it is a link out of the data folder, to ")

    def test_many_roots_are_one(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            base = Path(os.path.realpath(name))
            for i in range(40):
                (base / f"cache/{i:02x}").mkdir(parents=True)
                (base / f"cache/{i:02x}/blob").touch()
                (base / f"photos/{'ab'[i % 2]}").mkdir(parents=True, exist_ok=True)
                (base / f"photos/{'ab'[i % 2]}/{i}.png").symlink_to(base / f"cache/{i:02x}/blob")
            assert walk(f"{base}/photos", links="follow").folder.roots == (f"{base}/cache",)

    def test_a_store_in_a_hidden_folder_within_is_inside(self, folder: Path) -> None:
        """As git-annex keeps its files."""
        (folder / ".git/annex/objects").mkdir(parents=True)
        (folder / "cat/0000.png").rename(folder / ".git/annex/objects/SHA256E-s1--ab")
        (folder / "cat/0000.png").symlink_to("../.git/annex/objects/SHA256E-s1--ab")
        tree = walk(str(folder))
        assert not any(file.problem for file in tree.files)
        assert all(read_file(tree.folder, file.path) for file in tree.files)

    def test_a_class_folder_that_is_a_link_to_nowhere_is_not_lost(self, folder: Path) -> None:
        (folder / "swan").symlink_to("../elsewhere/swan")
        (folder / "cat/broken.png").symlink_to("../nowhere.png")
        with pytest.raises(InputError, match=r"beside its folders that lead nowhere: swan -> .*/elsewhere/swan\."):
            walk(str(folder))
        assert [file.path for file in walk(str(folder), ["/swan"]).files][2] == "cat/broken.png"
        (folder / "swan").rename(folder / "004.Groove_billed_Ani")
        with pytest.raises(InputError, match=r"lead nowhere: 004\.Groove_billed_Ani -> "):
            walk(str(folder))

    def test_links_within_linked_folders_end(self, folder: Path) -> None:
        """Three ways a level: 30 levels would take longer than the world has been."""
        inner = folder / "cat"
        for level in range(30):
            inner = inner / "next"
            inner.mkdir()
            for name in ("a", "b"):
                (inner.parent / name).symlink_to("next")
            assert level or walk(str(folder)).folders, "some of them are read"
        with pytest.raises(InputError, match=r"More than 100 paths in .* links within linked folders"):
            walk(str(folder))

    def test_files_that_were_not_fetched_are_told(self, folder: Path) -> None:
        for path in folder.glob("*/*1.png"):
            path.unlink()
        for path in folder.glob("*/*.png"):
            (path.parent / "a.png").symlink_to("../.git/annex/objects/a")
            (path.parent / "b.png").symlink_to("../.git/annex/objects/b")
        with pytest.raises(InputError, match=r"4 of 6 files in .* that are not there: .*annex.*git annex get"):
            walk(str(folder))

    def test_refuse_stops_at_any_link(self, folder: Path) -> None:
        (folder / "cat/again.png").symlink_to("0000.png")
        with pytest.raises(InputError, match=r"holds 1 links, and data\.links is refuse: cat/again\.png -> "):
            walk(str(folder), links="refuse")
        assert len(walk(str(folder)).files) == 5

    @pytest.mark.parametrize("to", ["..", "/", "."])
    def test_a_folder_that_holds_the_data_folder_is_not_entered(self, folder: Path, to: str) -> None:
        (folder / "cat/up").symlink_to(to if to != "." else folder)
        tree = walk(str(folder), links="follow")
        assert {file.path: file.problem for file in tree.files if file.problem} == {
            "cat/up": "it is a link to a folder it is in"
        }

    def test_nothing_but_where_links_led_when_listed_is_opened(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "store/a").write_bytes(b"a")
        (tmp_path / "secret").write_bytes(b"secret")
        (folder / "cat/a.png").symlink_to(tmp_path / "store/a")
        tree = walk(str(folder), links="follow")
        (folder / "cat/a.png").unlink()
        (folder / "cat/a.png").symlink_to(tmp_path / "secret")
        with pytest.raises(RejectedError, match="link out of the data folder"):
            read_file(tree.folder, "cat/a.png")

    def test_the_roots_reach_other_processes(self, folder: Path) -> None:
        linked = DataFolder.linked_to("photos", ["/store"])
        for module in (pickle, dill):
            assert module.loads(module.dumps(linked)).roots == ("/store",)


def test_what_only_lists_needs_no_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys; import components.ingestion.spans, pipeline.data_source; "
        "print([name for name in ('tensorflow', 'tfx', 'apache_beam') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"
