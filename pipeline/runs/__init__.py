"""What runs leave: their record, their history, the push directory."""
