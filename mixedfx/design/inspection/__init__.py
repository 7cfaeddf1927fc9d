"""What a formula asks of rows, described without a fit; also of rows that a fit would refuse."""
