"""Every port of tq inside one SQLite file."""
