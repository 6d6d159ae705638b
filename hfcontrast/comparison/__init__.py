"""``hfcontrast compare``: several recipes trained under the same overrides, and one table of their results."""
