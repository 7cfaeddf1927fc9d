"""Design of a formula on rows that are read in chunks: learned in one pass, applied in another."""
