# Read the data sets: the models are fitted to the text of the CSV files.

# The columns that are factors. Levels that are numbers are in the order of the numbers, others in
# alphabetical order, unless LEVELS gives another.
FACTORS <- list(
  sleepstudy = "Subject", Dyestuff = "Batch", Dyestuff2 = "Batch",
  Penicillin = c("plate", "sample"),
  Pastes = c("batch", "cask", "sample"), cake = c("replicate", "recipe", "temperature"),
  InstEval = c("s", "d", "studage", "lectage", "service", "dept"),
  star_k = c("sch", "tch", "sx", "cltype", "ses"), RatPupWeight = c("sex", "Litter", "Treatment"),
  psych = c("subj", "item", "cond"), psych_small = c("subj", "item", "cond"), wtsim = "g",
  offsim = "g", facslope = c("g", "f"), quad = c("g", "f"), nasim = c("g", "f"),
  romcom = c("friend", "movie", "kind"), romcom5 = c("friend", "movie", "kind"),
  schools = c("state", "district", "school", "classroom", "ses"),
  appcrash = c("publisher", "app", "device", "version"),
  answers = c("student", "grade", "item", "kind"), cbpp = c("herd", "period"),
  trial = c("patient", "arm", "visit")
)
KINDS <- c("steady", "usual", "erratic")
LEVELS <- list(
  InstEval = list(dept = c("15", "5", "10", "12", "6", "7", "4", "8", "9", "14", "1", "3", "11",
                           "2")),
  star_k = list(cltype = c("reg", "small", "regA")),
  RatPupWeight = list(sex = c("Male", "Female"), Treatment = c("Control", "Low", "High")),
  facslope = list(f = c("lo", "mid", "hi")),
  romcom = list(kind = KINDS), romcom5 = list(kind = KINDS),
  answers = list(kind = c("arithmetic", "algebra", "geometry")),
  trial = list(arm = c("placebo", "active"), visit = paste0("week", c(2, 4, 8, 12, 16)))
)

# Find the file of a data set: in data beside this folder, or among those of the package.
data_file <- function(name) {
  folders <- c(file.path(HERE, "data"), file.path(HERE, "..", "..", "datasets"))
  paths <- file.path(rep(folders, each = 2), paste0(name, c(".csv", ".csv.gz")))
  found <- paths[file.exists(paths)]
  if (!length(found)) stop("no data set ", name)
  found[1]
}

level_order <- function(labels) {
  labels <- unique(labels[!is.na(labels)])
  numbers <- suppressWarnings(as.numeric(labels))
  if (anyNA(numbers)) sort(labels, method = "radix") else labels[order(numbers)]
}

read_data <- function(name) {
  path <- data_file(name)
  factors <- FACTORS[[name]]
  header <- strsplit(readLines(path, 1), ",")[[1]]
  data <- read.csv(path, colClasses = ifelse(header %in% factors, "character", NA), na.strings = "",
                   check.names = FALSE)
  for (f in factors) {
    levels <- LEVELS[[name]][[f]]
    data[[f]] <- factor(data[[f]], levels = if (is.null(levels)) level_order(data[[f]]) else levels)
  }
  data
}

# Levels of the factors among some columns, in the order of the columns of `among`.
factor_levels <- function(data, among) {
  used <- Filter(function(v) is.factor(data[[v]]), among)
  named(setNames(lapply(used, function(v) arr(levels(data[[v]]))), used))
}
