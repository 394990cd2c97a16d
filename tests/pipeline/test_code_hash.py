from pipeline import code_hash


def test_the_hash_covers_what_a_module_imports():
    found = code_hash._closure("core.settings.loading")
    assert {"core.settings.loading", "core.settings.training", "core.errors"} <= found
    assert "pipeline.runners.console" not in found


def test_the_hash_changes_with_an_imported_module_only(tmp_path, monkeypatch):
    package = tmp_path / "trainer"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("from trainer import b\n")
    (package / "b.py").write_text("x = 1\n")
    (package / "c.py").write_text("x = 1\n")
    monkeypatch.setattr(code_hash, "_ROOT", tmp_path)
    before = code_hash.code_hash("trainer.a")
    (package / "c.py").write_text("x = 2\n")
    assert code_hash.code_hash("trainer.a") == before
    (package / "b.json").write_text("{}")
    with_data = code_hash.code_hash("trainer.a")
    assert with_data != before
    (package / "b.py").write_text("x = 2\n")
    assert code_hash.code_hash("trainer.a") != with_data
