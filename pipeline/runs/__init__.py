"""What runs leave behind: their records, their history, the push directory."""
