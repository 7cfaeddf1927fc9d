# An optimiser for lmer() that ends within about 1e-9 of the optimum's parameters, where lme4's own
# settings leave four to six digits: bobyqa and Nelder-Mead from several starts, then Newton steps.

# What the last search reports, and whether the criterion is cheap enough for several starts.
SEARCH <- new.env()
SEARCH$starts <- 3

# `fn`, `par`, `lower`, `upper` and `control` are what lmerControl(optimizer = ) asks for.
newton_search <- function(fn, par, lower, upper, control) {
  value_at <- function(p) {
    v <- try(fn(p), silent = TRUE)
    if (is.numeric(v) && is.finite(v)) v else 1e300
  }
  unbounded <- rep(Inf, length(par))
  best <- list(par = par, fval = value_at(par))
  take <- function(found) {
    lower_still <- is.list(found) && all(is.finite(found$par)) &&
      found$fval < best$fval - 1e-13 * abs(best$fval)
    if (lower_still) best <<- found[c("par", "fval")]
  }
  simplex <- function(p) {
    try(nloptwrap(p, value_at, lower = lower, upper = unbounded,
                  control = list(xtol_abs = 1e-10, ftol_abs = 1e-12, maxeval = 1e5)), silent = TRUE)
  }
  quadratic <- function(p) {
    try({
      o <- minqa::bobyqa(pmax(p, lower), value_at, lower = lower, upper = unbounded,
                         control = list(rhobeg = 0.05, rhoend = 1e-9, maxfun = 1e5))
      list(par = o$par, fval = o$fval)
    }, silent = TRUE)
  }
  is_sd <- lower == 0
  take(simplex(best$par))
  take(quadratic(best$par))
  set.seed(20)
  for (k in seq_len(SEARCH$starts)) {
    start <- ifelse(is_sd, exp(runif(length(par), -2, 0.7)), rnorm(length(par), 0, 0.2))
    first <- simplex(start)
    take(first)
    if (is.list(first)) take(quadratic(first$par))
  }
  if (!SEARCH$starts) take(quadratic(pmax(best$par * 1.1, lower)))

  # A standard deviation that is close to zero is zero if that is no worse.
  for (i in which(is_sd & best$par < 1e-4)) {
    p <- replace(best$par, i, 0)
    v <- value_at(p)
    if (v <= best$fval + 1e-9) best <- list(par = p, fval = v)
  }
  free <- which(!(is_sd & best$par == 0))
  held <- setdiff(seq_along(par), free)
  along <- function(q) value_at(replace(best$par, free, q))
  gradient <- function(q) numDeriv::grad(along, q, method.args = list(d = 1e-3, r = 4))
  H <- g <- NULL
  if (length(free)) {
    H <- try(numDeriv::hessian(along, best$par[free], method.args = list(d = 1e-2, r = 4)),
             silent = TRUE)
    if (inherits(H, "try-error") || any(!is.finite(H))) H <- NULL
    g <- gradient(best$par[free])
    for (iteration in seq_len(if (is.null(H)) 0 else 6)) {
      e <- eigen((H + t(H)) / 2, symmetric = TRUE)
      keep <- e$values > 1e-6 * max(e$values)
      Q <- e$vectors[, keep, drop = FALSE]
      step <- -drop(Q %*% (crossprod(Q, g) / e$values[keep]))
      p <- best$par
      p[free] <- p[free] + step
      if (any(p < lower) || max(abs(step)) > 0.1) break
      v <- value_at(p)
      smaller <- gradient(p[free])
      if (v > best$fval + 1e-12 * (1 + abs(best$fval)) || max(abs(smaller)) >= max(abs(g))) break
      best <- list(par = p, fval = v)
      done <- max(abs(smaller)) > 0.5 * max(abs(g)) || max(abs(step)) < 1e-11
      g <- smaller
      if (done) break
    }
  }
  slopes <- vapply(held, function(i) (value_at(replace(best$par, i, 1e-3)) - best$fval) / 1e-3, 0)
  SEARCH$report <- list(
    grad_free_max = if (length(free)) max(abs(g)) else 0,
    n_boundary = length(held),
    boundary_slope_min = if (length(slopes)) min(slopes) else NULL,
    hess_min_eig = if (!is.null(H)) min(eigen((H + t(H)) / 2, TRUE, TRUE)$values) else NULL
  )
  value_at(best$par)
  list(par = best$par, fval = best$fval, conv = 0, message = "converged", feval = NA)
}
