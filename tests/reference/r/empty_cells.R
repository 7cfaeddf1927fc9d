# lmerTest's anova tables of designs with cells without data, for tests/inference/test_anova.py:
#     Rscript tests/reference/r/empty_cells.R
suppressMessages({library(lmerTest); library(jsonlite)})
folder <- "tests/reference/empty_cells"
formulas <- c("A*B", "A*B + x", "A*B*C", "A*B*x", "A + B + A:B + C", "0 + A:B + x",
              "x + A:x + B*A", "(A + B + C)^2", "B*A + A:B:x", "A*B*C*x")
record <- function(data, fixed) {
  frame <- read.csv(file.path(folder, paste0(data, ".csv")), stringsAsFactors = TRUE)
  fit <- suppressMessages(lmer(as.formula(paste("y ~", fixed, "+ (1 | s)")), frame))
  table <- function(type) {
    a <- suppressMessages(suppressWarnings(anova(fit, type = type)))
    data.frame(term = rownames(a), num_df = a$NumDF, den_df = a$DenDF, F = a$`F value`)
  }
  list(data = data, fixed = fixed, tables = lapply(1:3, table))
}
cases <- expand.grid(data = c("one", "two", "three"), fixed = formulas, stringsAsFactors = FALSE)
records <- Map(record, cases$data, cases$fixed)
write_json(unname(records), file.path(folder, "lmertest.json"), digits = 12, auto_unbox = TRUE,
           na = "null", pretty = FALSE)
