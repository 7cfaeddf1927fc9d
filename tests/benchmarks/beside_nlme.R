# Rscript beside_nlme.R gls|glmmTMB SPEC.json: one line of JSON, the median seconds of a fit and
# its log-likelihood.
suppressMessages({library(jsonlite); library(nlme); library(glmmTMB)})
args <- commandArgs(TRUE)
spec <- fromJSON(args[2])
d <- read.csv(spec$csv, stringsAsFactors = TRUE)
for (name in spec$factors) d[[name]] <- factor(d[[name]])
call <- parse(text = spec[[args[1]]])
fit <- function() suppressWarnings(suppressMessages(eval(call)))
processor_time <- function() sum(proc.time()[c("user.self", "sys.self")])

timed <- function() {
  began <- processor_time()
  m <<- fit()
  processor_time() - began
}
warm_up <- timed()
seconds <- c()
while (length(seconds) < spec$reps && sum(seconds) + warm_up < spec$budget) {
  seconds <- c(seconds, timed())
}
if (!length(seconds)) seconds <- warm_up  # a fit so long that nothing is to be warmed up
cat(toJSON(list(seconds = median(seconds), llf = as.numeric(logLik(m))), auto_unbox = TRUE,
           digits = NA), "\n")
