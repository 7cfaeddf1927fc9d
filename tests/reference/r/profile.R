# Profile-likelihood limits: lme4's, each checked by constrained optimisation, and replaced by the
# root of the exact profile where lme4's interpolation misses |zeta - 1.96| < 1e-3.

Z95 <- qnorm(0.975)
ZETA <- 1e-3

# -2 log L as a function of theta and sigma, the fixed effects profiled out; if `column` is given,
# that coefficient is held at `value`.
ml_deviance <- function(parts, column = NULL, value = NULL) {
  fr <- parts$fr
  X <- parts$X
  if (!is.null(column)) {
    fr[[1]] <- fr[[1]] - X[, column] * value
    X <- X[, -column, drop = FALSE]
  }
  profiled <- mkLmerDevfun(fr, X, parts$reTrms, REML = FALSE)
  env <- environment(profiled)
  w <- model.weights(fr)
  constant <- nrow(fr) * log(2 * pi) - if (is.null(w)) 0 else sum(log(w))
  function(theta, sigma) {
    if (!is.finite(try(profiled(theta), silent = TRUE))) return(1e10)
    squares <- env$resp$wrss() + env$pp$sqrL(1)
    constant + 2 * nrow(fr) * log(sigma) + env$pp$ldL2() + squares / sigma^2
  }
}

# The terms of a fit: group, effects, standard deviations, correlations.
covariance_terms <- function(m) {
  vc <- VarCorr(m)
  lapply(seq_along(vc), function(t) {
    list(group = names(m@cnms)[t], effects = m@cnms[[t]], sd = unname(attr(vc[[t]], "stddev")),
         corr = unname(attr(vc[[t]], "correlation")))
  })
}

# The name of the parameter of a term, if it has it: list(sd = index) or list(cor = two indices).
parameter_of <- function(term, parm) {
  e <- term$effects
  for (a in seq_along(e)) {
    if (parm == sprintf("sd_%s|%s", e[a], term$group)) return(list(sd = a))
    for (b in seq_along(e)) {
      if (a < b && parm %in% sprintf(c("cor_%2$s.%1$s|%3$s", "cor_%1$s.%2$s|%3$s"), e[a], e[b],
                                     term$group)) return(list(cor = c(a, b)))
    }
  }
  list()
}

# The deviance with `parm` held at `value`, as a function of the free parameters (log standard
# deviations, canonical partial correlations by atanh, log sigma), and a start. A correlation that
# is held is the first canonical partial correlation of its term.
constrained <- function(fit, parm, value) {
  column <- match(parm, names(fit$beta))
  deviance <- if (is.na(column)) fit$deviance else ml_deviance(fit$parts, column, value)
  holds_sigma <- parm == "sigma"
  start <- numeric()
  slots <- lapply(fit$terms, function(term) {
    q <- length(term$effects)
    held <- parameter_of(term, parm)
    order <- c(held$cor, setdiff(seq_len(q), held$cor))
    R <- term$corr[order, order, drop = FALSE] * (1 - 1e-5) + 1e-5 * diag(q)
    L <- t(chol(R))
    partials <- numeric()
    for (r in seq_len(q)[-1]) {
      rest <- 1
      for (c in seq_len(r - 1)) {
        z <- L[r, c] / sqrt(rest)
        partials <- c(partials, atanh(min(max(z, -0.9999), 0.9999)))
        rest <- max(1e-9, rest * (1 - min(z^2, 0.9999)))
      }
    }
    if (!is.null(held$cor)) partials <- partials[-1]
    sds <- log(pmax(term$sd, 0.004 * fit$sigma))
    if (!is.null(held$sd)) sds <- sds[-held$sd]
    start <<- c(start, sds, partials)
    list(q = q, held = held, order = order)
  })
  if (!holds_sigma) start <- c(start, log(fit$sigma))
  objective <- function(p) {
    sigma <- if (holds_sigma) value else exp(p[length(p)])
    used <- 0
    following <- function() p[used <<- used + 1]
    theta <- unlist(lapply(slots, function(s) {
      sd <- vapply(seq_len(s$q), function(i) {
        if (identical(i, s$held$sd)) value else exp(min(following(), 50))
      }, 0)
      L <- diag(s$q)
      for (r in seq_len(s$q)[-1]) {
        rest <- 1
        for (c in seq_len(r - 1)) {
          z <- if (r == 2 && !is.null(s$held$cor)) value else tanh(following())
          L[r, c] <- z * sqrt(rest)
          rest <- rest * (1 - z^2)
        }
        L[r, r] <- sqrt(max(rest, 0))
      }
      # Rows back in the order of the effects; then the covariance has a lower root of its own.
      A <- L
      A[s$order, ] <- L
      A <- sd * A
      if (is.unsorted(s$order)) A <- lower_root(A)
      A[lower.tri(A, TRUE)]
    }))
    v <- deviance(theta / sigma, sigma)
    if (is.finite(v)) v else 1e10
  }
  list(objective = objective, start = start)
}

# The lower triangular root of A A'.
lower_root <- function(A) {
  R <- qr.R(qr(t(A)))
  t(R * ifelse(diag(R) < 0, -1, 1))
}

# The square root of the deviance's increase when `parm` is held at `value`.
zeta <- function(fit, parm, value) {
  problem <- constrained(fit, parm, value)
  f <- problem$objective
  start <- problem$start
  if (!length(start)) return(sqrt(max(0, f(start) - fit$best)))
  starts <- list(start)
  if (length(start) > 3) starts[[2]] <- start + 0.3 * sign(sin(seq_along(start)))
  values <- vapply(starts, function(p) {
    last <- Inf
    for (round in 1:6) {
      o <- nlminb(p, f, control = list(rel.tol = 1e-14, x.tol = 1e-10, eval.max = 4000,
                                       iter.max = 2000))
      if (length(p) > 1) {
        b <- minqa::bobyqa(o$par, f, control = list(rhobeg = 0.02, rhoend = 1e-8, maxfun = 1e4))
        if (b$fval < o$objective) o <- list(par = b$par, objective = b$fval)
      }
      p <- o$par
      if (last - o$objective < 1e-7) break
      last <- o$objective
    }
    min(o$objective, last)
  }, 0)
  sqrt(max(0, min(values) - fit$best))
}

# Check one row of limits; returns it with `checked` and the sides replaced.
checked_limits <- function(fit, parm, limits) {
  is_cor <- startsWith(parm, "cor_")
  edges <- c(lo = if (is_cor) -1 else if (startsWith(parm, "sd_") || parm == "sigma") 0 else -Inf,
             hi = if (is_cor) 1 else Inf)
  refit <- character()
  for (side in c("lo", "hi")) {
    sign <- if (side == "lo") -1 else 1
    edge <- edges[[side]]
    near <- if (edge == 0) 1e-5 * fit$sigma else edge * (1 - 1e-6)
    value <- limits[[side]]
    error <- if (is.na(value)) Inf
      else if (is.finite(edge) && abs(value - edge) < 1e-6) max(0, zeta(fit, parm, near) - Z95)
      else abs(zeta(fit, parm, value) - Z95)
    if (error <= ZETA) next
    limits[[side]] <- profile_root(fit, parm, sign, edge, near)
    refit <- c(refit, side)
  }
  list(parm = parm, lo = limits[["lo"]], hi = limits[["hi"]], checked = TRUE, refit = arr(refit))
}

# The root of zeta = 1.96, bracketed outwards from the estimate, or the edge of the range.
profile_root <- function(fit, parm, sign, edge, near) {
  a <- fit$estimate[[parm]]
  at <- a
  step <- fit$scale[[parm]]
  repeat {
    at <- at + sign * step
    step <- 1.3 * step
    if (is.finite(edge) && (at - edge) * sign >= 0) {
      if ((a - near) * sign >= 0 || zeta(fit, parm, near) < Z95) return(edge)
      at <- near
      break
    }
    if (zeta(fit, parm, at) > Z95) break
    a <- at
  }
  ends <- sort(c(a, at))
  uniroot(function(v) zeta(fit, parm, v) - Z95, ends, tol = 1e-9 * max(abs(ends)))$root
}

# lme4 1.1-31 profiles fixed effects without the prior weights: their limits are roots instead.
profile_limits <- function(m, call, weighted) {
  theta <- getME(m, "theta")
  notes <- character()
  noted <- function(expr) withCallingHandlers(expr, warning = function(w) {
    notes <<- c(notes, conditionMessage(w))
    invokeRestart("muffleWarning")
  })
  call$control <- quote(lmerControl(optimizer = "bobyqa",
                                    optCtrl = list(rhobeg = 0.05, rhoend = 1e-9, maxfun = 1e5)))
  call$start <- theta
  again <- suppressMessages(eval(call, globalenv()))
  fine <- nobs(m) < 1000 && length(theta) < 4
  profile <- noted(stats::profile(again, signames = FALSE, devtol = 1e-8,
                                  delta.cutoff = if (fine) 1/16 else 1/8))
  ci <- noted(confint(profile, oldNames = FALSE))

  call$control <- call$start <- NULL
  call[[1]] <- quote(lme4::lFormula)
  parts <- eval(call, globalenv())
  beta <- fixef(m)
  terms <- covariance_terms(m)
  fit <- list(parts = parts, deviance = ml_deviance(parts), best = -2 * as.numeric(logLik(m)),
              beta = beta, sigma = sigma(m), terms = terms,
              estimate = c(beta, sigma = sigma(m)),
              scale = c(sqrt(diag(as.matrix(vcov(m)))), sigma = sigma(m) / 4))
  for (term in terms) for (parm in rownames(ci)) {
    found <- parameter_of(term, parm)
    if (!is.null(found$sd)) {
      fit$estimate[[parm]] <- term$sd[found$sd]
      fit$scale[[parm]] <- max(term$sd[found$sd] / 3, sigma(m) / 20)
    } else if (!is.null(found$cor)) {
      fit$estimate[[parm]] <- term$corr[found$cor[1], found$cor[2]]
      fit$scale[[parm]] <- 0.1
    }
  }
  rows <- lapply(rownames(ci), function(parm) {
    limits <- c(lo = ci[parm, 1], hi = ci[parm, 2])
    if (weighted && parm %in% names(beta)) {
      limits[["lo"]] <- profile_root(fit, parm, -1, -Inf, NA)
      limits[["hi"]] <- profile_root(fit, parm, 1, Inf, NA)
    }
    checked_limits(fit, parm, limits)
  })
  notes <- unique(notes)
  if (weighted) {
    notes <- c(paste("limits of the fixed effects come from constrained refits:",
                     "lme4 1.1-31 profiles them without the weights"),
               grep("non-monotonic|bad spline|minstep", notes, value = TRUE, invert = TRUE))
  }
  list(limits = arr(rows), warnings = arr(as.list(notes)))
}
