"""The methods, one a file, and how they are declared and found."""
