"""What `hfcontrast push` says of a folder without a card."""

from hfcontrast.commands.push import told
from hfcontrast.publishing.pushed_files import PushedFile, PushedFiles


def test_that_there_is_no_card_is_said(tmp_path):
    def lines(name):
        return " ".join(told(PushedFiles([PushedFile(name, tmp_path, b"{}")], {}, False, None, 0)))

    assert "There is no card (README.md)" in lines("config.json") and "The card" not in lines("config.json")
    assert "The card states no license" in lines("README.md")
