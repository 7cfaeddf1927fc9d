# Write the reference files of this folder anew, or print the numbers that some tests quote.
#
#     Rscript tests/reference/make_references.R --list
#     Rscript tests/reference/make_references.R NAME... [--out DIR]
#     Rscript tests/reference/make_references.R --all [--out DIR]
#
# NAME is a model ("sleep_rs": models/sleep_rs__reml.json and models/sleep_rs__ml.json), a data set
# ("psych.csv": data/psych.csv), or a table of numbers that is printed ("emmeans"). --all stands for
# every model and every data set. Files are written below this folder, or below DIR.

script <- normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)))
HERE <- dirname(script)
for (part in c("json", "data", "data_sets", "names", "optimiser", "profile", "lme4", "nlme",
               "models", "tables")) {
  source(file.path(HERE, "r", paste0(part, ".R")))
}

args <- commandArgs(TRUE)
at <- match("--out", args)
OUT <- HERE
if (!is.na(at)) {
  if (at == length(args)) stop("--out needs a folder")
  OUT <- args[at + 1]
  args <- args[-c(at, at + 1)]
}

everything <- c(names(MODELS), names(DATA_SETS))
if (identical(args, "--list")) {
  writeLines(c(everything, names(TABLES)))
  quit()
}
if (identical(args, "--all")) args <- everything
unknown <- setdiff(args, c(everything, names(TABLES)))
if (!length(args) || length(unknown)) {
  stop("unknown: ", paste(unknown, collapse = ", "), "; give names that --list prints, or --all")
}
for (name in args) {
  if (name %in% names(MODELS)) make_model(name)
  else if (name %in% names(DATA_SETS)) make_data_set(name)
  else TABLES[[name]]()
}
