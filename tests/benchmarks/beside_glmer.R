# Rscript beside_glmer.R export FOLDER: data sets of lme4 and glmmTMB as CSV files.
# Rscript beside_glmer.R glmer|glmmTMB|clmm SPEC.json: one line of JSON, the median seconds of a fit and
# its log-likelihood.
suppressMessages({library(jsonlite); library(lme4); library(glmmTMB)})
args <- commandArgs(TRUE)
if (args[1] == "export") {
  put <- function(d, name) {
    write.csv(d, file.path(args[2], paste0(name, ".csv")), row.names = FALSE)
  }
  put(transform(cbpp, period = paste0("p", period)), "cbpp")
  put(transform(VerbAgg, y = as.integer(r2 == "Y")), "verbagg")
  put(transform(grouseticks, HEIGHT100 = (HEIGHT - mean(HEIGHT)) / 100), "grouseticks")
  put(transform(InstEval, good = as.integer(y >= 4)), "insteval")
  put(glmmTMB::Salamanders, "salamanders")
  put(ordinal::wine[c("rating", "temp", "contact", "judge")], "wine")
  put(setNames(as.data.frame(glmmTMB::Owls), make.names(names(glmmTMB::Owls))), "owls")
  quit()
}
spec <- fromJSON(args[2])
d <- read.csv(spec$csv, stringsAsFactors = TRUE)
for (name in spec$factors) d[[name]] <- factor(d[[name]])
if (args[1] == "clmm") {
  suppressMessages(library(ordinal))
  response <- all.vars(as.formula(spec$formula))[1]
  d[[response]] <- factor(d[[response]], ordered = TRUE)
}
fit <- function() suppressWarnings(suppressMessages({
  f <- as.formula(spec$formula)
  if (args[1] == "clmm") return(clmm(f, data = d, nAGQ = spec$nagq))
  if (args[1] == "glmmTMB") {
    family <- list(binomial = binomial(), poisson = poisson(), nbinom2 = nbinom2(),
                   tweedie = tweedie())[[spec$family]]
    zeros <- if (is.null(spec$zero_inflation)) ~0 else as.formula(spec$zero_inflation)
    return(glmmTMB(f, d, family = family, ziformula = zeros))
  }
  if (spec$family == "nbinom2") return(glmer.nb(f, d))
  glmer(f, d, family = spec$family, nAGQ = spec$nagq)
}))
processor_time <- function() sum(proc.time()[c("user.self", "sys.self")])
invisible(glmmTMB(incidence ~ 1 + (1 | herd), cbpp, family = poisson()))  # everything is loaded
invisible(glmer(incidence ~ 1 + (1 | herd), cbpp, family = poisson()))
seconds <- c()
while (length(seconds) < spec$reps && sum(seconds) < spec$budget) {
  began <- processor_time()
  m <- fit()
  seconds <- c(seconds, processor_time() - began)
}
cat(toJSON(list(seconds = median(seconds), llf = as.numeric(logLik(m))), auto_unbox = TRUE,
           digits = NA), "\n")
