# From this folder: Rscript laplace.R. Laplace's approximation of models with correlated or shared effects, written out and maximised.
suppressMessages(library(jsonlite))
d <- read.csv("data/binary.csv"); ped <- read.csv("data/binary_pedigree.csv", colClasses = "character", na.strings = "")
X <- cbind(1, d$x)
A <- diag(nrow(ped)); dimnames(A) <- list(ped$id, ped$id)  # the tabular method
for (i in seq_len(nrow(ped))) if (!is.na(ped$sire[i])) {
  before <- seq_len(i - 1); s <- ped$sire[i]; m <- ped$dam[i]
  A[i, before] <- A[before, i] <- (A[s, before] + A[m, before]) / 2; A[i, i] <- 1 + A[s, m] / 2
}
indicator <- function(f) { f <- factor(f); Z <- outer(as.character(f), levels(f), "==") * 1; colnames(Z) <- levels(f); Z }
animals <- indicator(d$animal); L <- t(chol(A[colnames(animals), colnames(animals)]))
teachers <- sort(unique(c(d$t1, d$t2)))
W <- sapply(teachers, function(t) d$w1 * (d$t1 == t) + d$w2 * (d$t2 == t))
herds <- indicator(d$herd)
density <- list(
  binomial = list(l = function(y, e) y * e - log1p(exp(e)), g = function(y, e) y - plogis(e), w = function(y, e) plogis(e) * (1 - plogis(e))),
  poisson = list(l = function(y, e) y * e - exp(e) - lgamma(y + 1), g = function(y, e) y - exp(e), w = function(y, e) exp(e)))
deviance_of <- function(par, y, family, Zs) {
  f <- density[[family]]; k <- length(Zs)
  Z <- do.call(cbind, Map(function(Z, s) s * Z, Zs, par[seq_len(k)])); beta <- par[-seq_len(k)]
  u <- rep(0, ncol(Z)); value <- function(u) { e <- drop(X %*% beta + Z %*% u); -sum(f$l(y, e)) + sum(u^2) / 2 }
  for (i in 1:200) {
    e <- drop(X %*% beta + Z %*% u); gradient <- drop(crossprod(Z, f$g(y, e))) - u
    H <- crossprod(Z, f$w(y, e) * Z) + diag(ncol(Z)); step <- solve(H, gradient); size <- 1
    while (value(u + size * step) > value(u) + 1e-12) size <- size / 2
    u <- u + size * step
    if (sqrt(sum(gradient^2)) < 1e-12 * ncol(Z)) break
  }
  e <- drop(X %*% beta + Z %*% u); H <- crossprod(Z, f$w(y, e) * Z) + diag(ncol(Z))
  structure(2 * value(u) + as.numeric(determinant(H)$modulus), u = u)
}
fit <- function(y, family, Zs) {
  fn <- function(p) as.numeric(deviance_of(p, y, family, Zs))
  p <- c(rep(0.8, length(Zs)), 0, 0)
  for (i in 1:4) p <- nlminb(p, fn, control = list(rel.tol = 1e-15, x.tol = 1e-12, eval.max = 2000, iter.max = 1000))$par
  H <- optimHess(p, fn, control = list(ndeps = rep(1e-3, length(p)))); k <- length(Zs)
  list(llf = -fn(p) / 2, sd = abs(p[seq_len(k)]), params = p[-seq_len(k)], bse = sqrt(diag(solve(H / 2)))[-seq_len(k)])
}
AL <- animals %*% L
out <- list(
  binary = fit(d$y, "binomial", list(AL)), binary_herd = fit(d$y, "binomial", list(AL, herds)),
  count = fit(d$count, "poisson", list(AL)), members = fit(d$passed, "binomial", list(W)),
  members_herd = fit(d$passed, "binomial", list(W, herds)))
write(toJSON(out, digits = 12, auto_unbox = TRUE, pretty = TRUE), "laplace.json")
