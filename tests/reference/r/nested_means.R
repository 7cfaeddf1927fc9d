# emmeans' means and contrasts of nested factors, for tests/inference/emmeans/test_nesting.py:
#     Rscript tests/reference/r/nested_means.R
suppressMessages({library(lmerTest); library(emmeans); library(jsonlite)})
emm_options(lmer.df = "satterthwaite")
folder <- "tests/reference/nested"
frame <- read.csv(file.path(folder, "varieties.csv"), stringsAsFactors = TRUE)
record <- function(fixed, specs, by = NULL) {
  fit <- suppressMessages(lmer(as.formula(paste("y ~", fixed, "+ (1 | block)")), frame))
  means <- suppressMessages(emmeans(fit, specs, by = by))
  pairs <- as.data.frame(summary(pairs(means)))
  table <- as.data.frame(summary(means))
  levels <- intersect(c("fam", "var", "line", "trt"), names(table))
  list(fixed = fixed, specs = I(specs), by = if (is.null(by)) list() else I(by),
       means = cbind(table[levels], table[c("emmean", "SE", "df")]),
       pairs = pairs[!is.na(pairs$SE), c("estimate", "SE", "df", "p.value")])
}
records <- list()
for (fixed in c("fam/var", "fam + var", "fam + fam:var", "fam/var + trt + x", "trt * (fam/var)",
                "fam/var/line", "fam + var + line + trt", "trt + trt:fam")) {
  for (specs in list("fam", "var", "line", "trt", c("fam", "trt"), c("var", "trt"))) {
    if (!all(specs %in% all.vars(as.formula(paste("~", fixed))))) next
    records[[length(records) + 1]] <- record(fixed, specs)
  }
}
records[[length(records) + 1]] <- record("fam/var", "var", by = "fam")
records[[length(records) + 1]] <- record("fam/var/line", "line", by = "var")
records[[length(records) + 1]] <- record("fam/var + trt", "trt", by = "var")
write_json(records, file.path(folder, "emmeans.json"), digits = 10, auto_unbox = TRUE, na = "null")
