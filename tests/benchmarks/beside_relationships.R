# One fit by lme4's modular functions, as pedigreemm makes them: Z of effects that A correlates is
# multiplied by the factor of A. Argument: the specification, a file of JSON.
suppressPackageStartupMessages({
  library(lme4)
  library(Matrix)
  library(jsonlite)
})
spec <- fromJSON(commandArgs(TRUE)[1])
d <- read.csv(spec$csv)
size <- spec$animals
A <- matrix(readBin(spec$matrix, "double", size^2), size, size)
d$animal <- factor(d$animal, levels = seq_len(size) - 1)
ignore <- lmerControl(check.nobs.vs.nlev = "ignore", check.nobs.vs.nRE = "ignore")
processor_time <- function() sum(proc.time()[c("user.self", "sys.self")])
fit <- function() {
  parts <- lFormula(as.formula(spec$formula), d, REML = TRUE, control = ignore)
  k <- length(parts$reTrms$cnms[[1]])
  parts$reTrms$Zt <- kronecker(Matrix(chol(A)), Diagonal(k)) %*% parts$reTrms$Zt
  parts$reTrms$Zt <- as(as(parts$reTrms$Zt, "generalMatrix"), "CsparseMatrix")
  criterion <- do.call(mkLmerDevfun, parts)
  optimum <- optimizeLmer(criterion)
  mkMerMod(environment(criterion), optimum, parts$reTrms, fr = parts$fr)
}
began <- processor_time()
m <- fit()
seconds <- processor_time() - began
cat(toJSON(list(seconds = seconds, llf = as.numeric(logLik(m))), auto_unbox = TRUE, digits = NA), "\n")
