"""Local paths: the home folder, names in any normalization form, and names that look like patterns."""

import unicodedata
from glob import glob

import pytest

from hfcontrast.paths import home_problem, local_path, local_pattern, quoted

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))


def test_home_is_expanded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/photos") == f"{tmp_path}/photos" == local_path(local_path("~/photos"))
    assert local_path("~") == str(tmp_path)
    for other in ("~nobody-of-this-name/x", "a/~/b", "hf://datasets/~/x", "facebook/dinov2-small", "builtin/shapes"):
        assert local_path(other) == other


@pytest.mark.parametrize("typed, there", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_name_is_found_in_the_other_normalization_form(tmp_path, typed, there):
    (tmp_path / there / "b").mkdir(parents=True)
    assert local_path(f"{tmp_path}/{typed}/b") == f"{tmp_path}/{there}/b"
    assert local_path(f"{typed}/b", str(tmp_path)) == f"{there}/b"
    assert local_path(f"{tmp_path}/{typed}/new/{typed}") == f"{tmp_path}/{there}/new/{typed}"
    (tmp_path / typed).mkdir()  # where both are there, the one that was named
    assert local_path(f"{tmp_path}/{typed}") == f"{tmp_path}/{typed}"


@pytest.mark.parametrize("name", ["My [2024]", "a*b", "a?b", "[a]", "{x,y}", "#1 50%", "it's", 'say "x"', "**", "写真"])
def test_a_name_that_is_there_goes_before_a_pattern(tmp_path, monkeypatch, name):
    (tmp_path / name / "x y").mkdir(parents=True)
    for file in ("1.jpg", "2.jpg", "3.png"):
        (tmp_path / name / "x y" / file).touch()
    assert len(glob(local_pattern(f"{tmp_path}/{name}/*/*.jpg"))) == 2
    assert glob(local_pattern(f"{tmp_path}/{name}/x y/1.jpg")) == [f"{tmp_path}/{name}/x y/1.jpg"]
    assert len(glob(local_pattern(f"{name}/**/*.jpg", str(tmp_path)), root_dir=tmp_path, recursive=True)) == 2


def test_patterns_stay_patterns(tmp_path):
    (tmp_path / "a1").mkdir()
    for pattern in (f"{tmp_path}/a[12]/*.jpg", f"{tmp_path}/*/*.jpg", "hf://datasets/a/b/[x].parquet", "*.jpg"):
        assert local_pattern(pattern) == pattern


def test_a_pattern_matches_names_in_the_other_normalization_form(tmp_path):
    (tmp_path / DECOMPOSED).mkdir()
    (tmp_path / DECOMPOSED / f"{DECOMPOSED}1.jpg").touch()
    assert len(glob(local_pattern(f"{tmp_path}/{COMPOSED}/{COMPOSED}*.jpg"))) == 1


def test_no_folder_is_called_like_the_home_folder(tmp_path):
    assert home_problem(f"{tmp_path}/run") is None and home_problem("~backup/run") is None
    assert "would be no home folder" in home_problem(f"{tmp_path}/~/run")
    assert "is not known" in home_problem("~/run")
    (tmp_path / "~").mkdir()  # that of a run which an earlier version began
    assert home_problem(f"{tmp_path}/~/run") is None


def test_a_quoted_path_is_python():
    for path in ('say "x"', "a\\b", "写真 😀", "it's"):
        assert eval(quoted(path)) == path
