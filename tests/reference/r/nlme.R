# Models whose residual standard deviation differs between strata: nlme's lme() with varIdent().
#
# nlme's convergence leaves four to six digits of the estimates. So the same likelihood is written
# out here, and optimised from nlme's answer to about 1e-9; nlme's own numbers stand beside it.

# A model to fit, with one grouping factor; see models.R.
varident <- function(fixed, random, group, data, exercises, strata) {
  list(make = make_varident, fixed = fixed, random = random, group = group, data = data,
       exercises = exercises, strata = strata)
}

# The log-likelihood. Its parameters: the lower triangle of the root of the covariance of the random
# effects, the diagonal by logarithms; log of the first stratum's residual standard deviation; logs
# of the other strata's ratios to it.
varident_likelihood <- function(X, Z, y, group, stratum, REML) {
  rows <- split(seq_along(y), group)
  q <- ncol(Z)
  p <- ncol(X)
  n <- length(y) - if (REML) p else 0
  n_root <- q * (q + 1) / 2
  n_ratios <- nlevels(stratum) - 1
  unpack <- function(par) {
    L <- matrix(0, q, q)
    L[lower.tri(L, TRUE)] <- par[seq_len(n_root)]
    diag(L) <- exp(diag(L))
    list(G = tcrossprod(L), sigma = exp(par[n_root + 1]),
         ratio = c(1, exp(par[n_root + 1 + seq_len(n_ratios)])))
  }
  solve_at <- function(par) {
    u <- unpack(par)
    sd <- u$sigma * u$ratio[as.integer(stratum)]
    XX <- matrix(0, p, p)
    Xy <- rep(0, p)
    yy <- logdet <- 0
    roots <- lapply(rows, function(i) {
      V <- Z[i, , drop = FALSE] %*% u$G %*% t(Z[i, , drop = FALSE]) + diag(length(i)) * sd[i]^2
      R <- chol(V)
      A <- backsolve(R, cbind(X[i, , drop = FALSE], y[i]), transpose = TRUE)
      Xi <- A[, seq_len(p), drop = FALSE]
      yi <- A[, p + 1]
      XX <<- XX + crossprod(Xi)
      Xy <<- Xy + drop(crossprod(Xi, yi))
      yy <<- yy + sum(yi^2)
      logdet <<- logdet + 2 * sum(log(diag(R)))
      R
    })
    beta <- solve(XX, Xy)
    extra <- if (REML) as.numeric(determinant(XX)$modulus) else 0
    loglik <- -0.5 * (n * log(2 * pi) + logdet + yy - sum(beta * Xy) + extra)
    c(u, list(loglik = loglik, beta = beta, vcov = solve(XX), roots = roots))
  }
  effects <- function(at) {
    b <- vapply(names(rows), function(level) {
      i <- rows[[level]]
      R <- at$roots[[level]]
      r <- y[i] - X[i, , drop = FALSE] %*% at$beta
      r <- backsolve(R, backsolve(R, r, transpose = TRUE))
      drop(at$G %*% crossprod(Z[i, , drop = FALSE], r))
    }, numeric(q))
    matrix(b, ncol = q, byrow = TRUE)
  }
  list(solve_at = solve_at, effects = effects, levels = names(rows))
}

# Minimise by BFGS, then by Newton steps; with the gradient and Hessian at the end.
newton_minimum <- function(f, start) {
  slope <- function(p) numDeriv::grad(f, p, method.args = list(d = 1e-3, r = 4))
  curvature <- function(p) numDeriv::hessian(f, p, method.args = list(d = 1e-2, r = 4))
  o <- optim(start, f, method = "BFGS", control = list(maxit = 2000, reltol = 1e-15))
  par <- if (o$value < f(start)) o$par else start
  for (iteration in 1:8) {
    step <- try(solve(curvature(par), slope(par)), silent = TRUE)
    if (is_error(step) || max(abs(step)) > 1 || f(par - step) > f(par) + 1e-9) break
    par <- par - step
    if (max(abs(step)) < 1e-10) break
  }
  list(par = par, gradient = slope(par), hessian = curvature(par))
}

# nlme's fit, by the better of its two optimisers.
fit_lme <- function(model, data, REML) {
  best <- NULL
  notes <- character()
  for (optimiser in c("nlminb", "optim")) {
    control <- nlme::lmeControl(opt = optimiser, maxIter = 500, msMaxIter = 1000, msMaxEval = 1e5,
                                tolerance = 1e-9, msTol = 1e-12, niterEM = 100, returnObject = TRUE)
    fit <- noting(do.call(nlme::lme, list(
      fixed = as.formula(model$fixed), data = data, control = control,
      random = setNames(list(as.formula(paste0("~", model$random))), model$group),
      weights = nlme::varIdent(form = as.formula(paste0("~1|", model$strata))),
      method = if (REML) "REML" else "ML"
    )))
    notes <- c(notes, paste(optimiser, fit$notes)[nzchar(fit$notes)])
    better <- !is_error(fit$value) && (is.null(best) || logLik(fit$value) > logLik(best))
    if (better) best <- fit$value
  }
  list(fit = best, notes = notes)
}

# nlme's approximate limits of the parameters of the covariance.
lme_intervals <- function(m) {
  limits <- noting(nlme::intervals(m))$value
  if (is_error(limits)) return(NULL)
  rows <- list()
  for (part in intersect(names(limits), c("reStruct", "varStruct", "sigma"))) {
    z <- limits[[part]]
    if (part == "reStruct") z <- do.call(rbind, z)
    if (part == "sigma") z <- data.frame(as.list(z), row.names = "sigma")
    if (!is.data.frame(z)) z <- as.data.frame(unclass(z))
    rows <- c(rows, lapply(seq_len(nrow(z)), function(i) {
      list(part = part, parm = rownames(z)[i], lo = z[i, "lower"], est = z[i, "est."],
           hi = z[i, "upper"])
    }))
  }
  arr(rows)
}

covariance_rows_of <- function(G, sigma, group, effects) {
  row <- function(i, j) {
    sd <- sqrt(diag(G))
    list(grp = group, group = group, term = 0L, var1 = effects[i],
         var2 = if (i != j) effects[j], vcov = G[i, j],
         sdcor = if (i == j) sd[i] else G[i, j] / sd[i] / sd[j])
  }
  q <- length(effects)
  pairs <- which(upper.tri(diag(q)), arr.ind = TRUE)
  pairs <- pairs[order(pairs[, 1]), , drop = FALSE]
  arr(c(lapply(seq_len(q), function(i) row(i, i)),
        lapply(seq_len(nrow(pairs)), function(k) row(pairs[k, 1], pairs[k, 2])),
        list(list(grp = "Residual", group = NULL, term = NULL, var1 = NULL, var2 = NULL,
                  vcov = sigma^2, sdcor = sigma))))
}

make_varident <- function(id, model) {
  for (method in c("REML", "ML")) {
    record <- fit_varident(id, model, method)
    cat(sprintf("%-24s criterion %.8f, gradient %.1e\n", record$id, record$criterion,
                record$optcheck$grad_free_max))
    write_model(record)
  }
}

fit_varident <- function(id, model, method) {
  data <- read_data(model$data)
  REML <- method == "REML"
  fixed <- as.formula(model$fixed)
  random <- as.formula(paste0("~", model$random))
  group <- data[[model$group]]
  stratum <- data[[model$strata]]
  X <- model.matrix(fixed[-2], data)
  Z <- model.matrix(random, data)
  y <- eval(fixed[[2]], data)
  n <- length(y)
  p <- ncol(X)
  theirs <- fit_lme(model, data, REML)
  m <- theirs$fit
  ratios <- coef(m$modelStruct$varStruct, unconstrained = FALSE, allCoef = TRUE)[levels(stratum)]
  lme_sigma <- m$sigma * unname(ratios[1])
  lme_ratios <- unname(ratios / ratios[1])
  lme_G <- matrix(as.numeric(nlme::getVarCov(m)), ncol(Z))

  root <- t(chol(lme_G))
  diag(root) <- log(diag(root))
  start <- c(root[lower.tri(root, TRUE)], log(lme_sigma), log(lme_ratios[-1]))
  likelihood <- varident_likelihood(X, Z, y, group, stratum, REML)
  deviance <- function(par) {
    v <- try(-2 * likelihood$solve_at(par)$loglik, silent = TRUE)
    if (is_error(v) || !is.finite(v)) 1e10 else v
  }
  end <- newton_minimum(deviance, start)
  at <- likelihood$solve_at(end$par)
  b <- likelihood$effects(at)
  beta <- setNames(at$beta, colnames(X))
  se <- sqrt(diag(at$vcov))
  n_par <- length(end$par) + p

  names_py <- py_names(terms(fixed), X, data)
  table <- summary(m)$tTable
  lme_beta <- nlme::fixef(m)
  rows <- rows_of(p, function(i) list(
    name = colnames(X)[i], name_py = unname(names_py[i]), estimate = unname(beta[i]),
    se = unname(se[i]), t = unname(beta[i] / se[i]), df_containment = unname(table[i, "DF"]),
    p_containment = unname(2 * pt(-abs(beta[i] / se[i]), table[i, "DF"])),
    nlme_estimate = unname(lme_beta[i]), nlme_se_varFix = unname(sqrt(diag(m$varFix))[i]),
    nlme_se_summary = unname(table[i, "Std.Error"])
  ))
  f_tests <- as.data.frame(anova(m, type = "marginal"))
  f_tests <- f_tests[rownames(f_tests) != "(Intercept)", , drop = FALSE]

  fitted_fixed <- drop(X %*% beta)
  own <- b[match(as.character(group), likelihood$levels), , drop = FALSE]
  fitted <- fitted_fixed + rowSums(Z * own)
  sd <- at$sigma * at$ratio[as.integer(stratum)]

  # First, middle and last row, and the first and last with a new level.
  vars <- unique(c(all.vars(fixed), all.vars(random), model$group, model$strata))
  new <- data[c(1, (n + 1) %/% 2, n, 1, n), setdiff(vars, all.vars(fixed[[2]])), drop = FALSE]
  new[[model$group]] <- as.character(new[[model$group]])
  new[4:5, model$group] <- "NEW"
  new_effects <- b[match(new[[model$group]], likelihood$levels), , drop = FALSE]
  new_effects[is.na(new_effects)] <- 0
  xlev <- lapply(Filter(is.factor, data[all.vars(fixed)]), levels)
  population <- drop(model.matrix(delete.response(terms(fixed)), new, xlev = xlev) %*% beta)
  conditional <- population + rowSums(model.matrix(random, new) * new_effects)

  formula <- sprintf("%s + (%s | %s)", model$fixed, model$random, model$group)
  loglik <- as.numeric(logLik(m))
  list(
    id = paste0(id, "__", tolower(method)), engine = sprintf("nlme %s lme", version_of("nlme")),
    formula = formula, formula_py = py_formula(formula),
    nlme_call = sprintf(
      "lme(%s, random = ~%s | %s, weights = varIdent(form = ~1 | %s), method = \"%s\")",
      model$fixed, model$random, model$group, model$strata, method),
    data = basename(data_file(model$data)), factors = factor_levels(data, vars), weights = NULL,
    offset = NULL, REML = REML, nobs = n, n_rows_data = n, na_rows_dropped = 0,
    ngrps = setNames(list(nlevels(group)), model$group), fixef = rows, vcov = mat(at$vcov),
    theta = NULL, sigma = at$sigma,
    variance_function = list(
      type = "varIdent", stratum = model$strata, levels = arr(levels(stratum)),
      ratio = arr(at$ratio), sigma_by_level = arr(at$ratio * at$sigma),
      nlme_ratio = arr(lme_ratios), nlme_sigma_by_level = arr(lme_ratios * lme_sigma)),
    correlation = NULL, varcorr = covariance_rows_of(at$G, at$sigma, model$group, colnames(Z)),
    loglik = at$loglik, criterion = -2 * at$loglik, aic = -2 * at$loglik + 2 * n_par,
    bic = -2 * at$loglik + log(n - if (REML) p else 0) * n_par, df_model = n_par,
    nlme = list(loglik = loglik, aic = AIC(m), bic = BIC(m), sigma_first_level = lme_sigma,
                G = mat(lme_G), messages = arr(as.list(theirs$notes))),
    ranef = setNames(list(list(
      columns = arr(colnames(Z)), columns_py = arr(unname(py_names(terms(random), Z, data))),
      n_levels = nrow(b), truncated = FALSE, levels = arr(likelihood$levels), values = arr(b),
      col_sumsq = arr(colSums(b^2)),
      nlme_values = mat(as.matrix(nlme::ranef(m))[likelihood$levels, , drop = FALSE])
    )), model$group),
    ranef_cond_sd = NULL, head_rows = arr(0:9), fitted_head = arr(unname(head(fitted, 10))),
    fitted_fixed_head = arr(unname(head(fitted_fixed, 10))),
    resid_head = arr(unname(head(y - fitted, 10))),
    resid_pearson_head = arr(unname(head((y - fitted) / sd, 10))), singular = FALSE,
    anova = rows_of(nrow(f_tests), function(i) list(
      term = rownames(f_tests)[i], numdf = f_tests[i, 1], dendf = f_tests[i, 2], F = f_tests[i, 3],
      p = f_tests[i, 4], ddf = "containment")),
    confint_wald = wald_limits(beta, se), confint_profile = NULL, intervals_nlme = lme_intervals(m),
    r2_nakagawa = NULL, icc = NULL,
    predict_new = list(rows = row_records(new), population = arr(unname(population)),
                       conditional = arr(unname(conditional))),
    optcheck = list(grad_free_max = max(abs(end$gradient)), n_boundary = 0,
                    hess_min_eig = min(eigen(end$hessian, TRUE, TRUE)$values),
                    loglik_gain_over_nlme = at$loglik - loglik,
                    loglik_direct_at_nlme_estimate = -deviance(start) / 2),
    exercises = model$exercises, note = NULL
  )
}
