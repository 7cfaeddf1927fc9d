# Linear mixed models: lme4's fits with the tests of lmerTest and pbkrtest, and the R squared of
# performance.

suppressMessages({library(lme4); library(lmerTest)})
options(contrasts = c("contr.treatment", "contr.treatment"), warn = 1)

LARGE <- 20000  # rows: beyond it no profile, and one start of the search

version_of <- function(package) format(packageDescription(package)$Version)

# Evaluate; keep what it warned or told.
noting <- function(expr) {
  notes <- character()
  value <- withCallingHandlers(
    try(expr, silent = TRUE),
    warning = function(w) {
      notes <<- c(notes, conditionMessage(w))
      invokeRestart("muffleWarning")
    },
    message = function(m) {
      notes <<- c(notes, trimws(conditionMessage(m)))
      invokeRestart("muffleMessage")
    }
  )
  list(value = value, notes = unique(notes))
}
is_error <- function(x) inherits(x, "try-error")
null_if_na <- function(v) if (is.null(v) || is.na(v)) NULL else unname(v)
rows_of <- function(n, row) arr(lapply(seq_len(n), row))

# A model to fit; see models.R.
lmm <- function(formula, data, exercises, weights = NULL, offset = NULL, methods = c("REML", "ML"),
                profile = TRUE) {
  list(make = make_lmm, formula = formula, data = data, exercises = exercises, weights = weights,
       offset = offset, methods = methods, profile = profile)
}

criterion_of <- function(m) {
  if (isREML(m)) unname(getME(m, "devcomp")$cmp["REML"]) else -2 * as.numeric(logLik(m))
}

covariance_rows <- function(m) {
  v <- as.data.frame(VarCorr(m))
  term <- match(v$grp, names(VarCorr(m)))
  rows_of(nrow(v), function(i) list(
    grp = v$grp[i], group = if (is.na(term[i])) NULL else names(m@cnms)[term[i]],
    term = if (is.na(term[i])) NULL else term[i] - 1L, var1 = null_if_na(v$var1[i]),
    var2 = null_if_na(v$var2[i]), vcov = v$vcov[i], sdcor = v$sdcor[i]
  ))
}

# Random effects and their conditional standard deviations; beyond 500 levels the first 20.
random_effects <- function(m, formula, data) {
  with_sds <- !is_error(re <- noting(ranef(m, condVar = TRUE))$value)
  if (!with_sds) re <- ranef(m, condVar = FALSE)
  map <- py_random_names(formula, data)
  values <- sds <- list()
  for (group in names(re)) {
    x <- as.matrix(re[[group]])
    shown <- seq_len(if (nrow(x) > 500) 20 else nrow(x))
    names <- map[[gsub(" ", "", group)]]
    if (is.null(names)) names <- unlist(unname(map))
    head <- list(columns = arr(colnames(x)), columns_py = arr(unname(names[colnames(x)])),
                 n_levels = nrow(x), truncated = length(shown) < nrow(x),
                 levels = arr(rownames(x)[shown]))
    values[[group]] <- c(head, list(values = arr(unname(x[shown, , drop = FALSE])),
                                    col_sumsq = arr(colSums(x^2))))
    if (!with_sds) next
    variances <- attr(re[[group]], "postVar")
    if (!is.list(variances)) variances <- list(variances)
    sd <- do.call(cbind, lapply(variances, function(a) {
      matrix(sqrt(pmax(0, apply(a, 3, diag))), nrow = dim(a)[3], byrow = TRUE)
    }))
    sds[[group]] <- c(head, list(values = arr(sd[shown, , drop = FALSE])))
  }
  list(values = named(values), sds = if (length(sds)) sds else NULL)
}

# Rows to predict: first, middle and last used rows, and copies with new levels of the groups.
new_rows <- function(m, formula, data, offset) {
  fixed <- all.vars(delete.response(terms(nobars(formula))))
  bars <- findbars(formula)
  covariates <- unique(c(fixed, unlist(lapply(bars, function(b) all.vars(b[[2]])))))
  vars <- unique(c(fixed, unlist(lapply(bars, all.vars)), offset))
  used <- data[as.integer(rownames(model.frame(m))), , drop = FALSE]
  n <- nrow(used)
  new <- used[c(1, (n + 1) %/% 2, n, 1, n, n), vars, drop = FALSE]
  rownames(new) <- NULL
  # The second row takes the covariates of the last.
  for (v in covariates) new[2, v] <- new[3, v]
  groups <- unique(setdiff(unlist(lapply(bars, function(b) all.vars(b[[3]]))), covariates))
  for (g in groups) {
    new[[g]] <- factor(as.character(new[[g]]), levels = c(levels(used[[g]]), "NEW"))
  }
  sizes <- vapply(groups, function(g) nlevels(droplevels(used[[g]])), 0)
  inner <- groups[which.max(sizes)]
  new[4, inner] <- "NEW"
  for (g in groups) new[5, g] <- "NEW"
  if (length(groups) == 1) return(new[-6, , drop = FALSE])
  new[6, setdiff(groups, inner)[1]] <- "NEW"
  new
}
row_records <- function(new) rows_of(nrow(new), function(i) {
  lapply(as.list(new[i, , drop = FALSE]), function(v) if (is.factor(v)) as.character(v) else v)
})

wald_limits <- function(beta, se) rows_of(length(beta), function(i) {
  list(parm = names(beta)[i], lo = unname(beta[i] - Z95 * se[i]),
       hi = unname(beta[i] + Z95 * se[i]))
})

# The variance parts of R squared from the fit itself.
r2_direct <- function(m) {
  fixed <- var(drop(getME(m, "X") %*% fixef(m)))
  ZL <- crossprod(getME(m, "Zt"), getME(m, "Lambda"))
  random <- mean(Matrix::rowSums(ZL^2)) * sigma(m)^2
  residual <- sigma(m)^2
  total <- fixed + random + residual
  list(var_fixed = fixed, var_random = random, var_residual = residual, marginal = fixed / total,
       conditional = (fixed + random) / total, icc_adjusted = random / (random + residual))
}

# performance's R squared and ICC. Version 0.10.2 counts the variance of the random effects wrongly
# for some structures; then its values stand in `raw` alone.
r2_performance <- function(m, direct) {
  quiet <- function(expr) try(suppressWarnings(suppressMessages(expr)), silent = TRUE)
  r <- quiet(performance::r2_nakagawa(m))
  i <- quiet(performance::icc(m))
  if (is_error(r) || is_error(i)) return(list())
  number <- function(x, field) if (is.list(x)) null_if_na(as.numeric(x[[field]])) else NULL
  r2 <- list(marginal = number(r, "R2_marginal"), conditional = number(r, "R2_conditional"))
  icc <- list(adjusted = number(i, "ICC_adjusted"), unadjusted = number(i, "ICC_unadjusted"))
  agree <- function(a, b) is.null(a) || abs(a - b) < 1e-5
  raw <- NULL
  if (!(agree(r2$marginal, direct$marginal) && agree(r2$conditional, direct$conditional) &&
        agree(icc$adjusted, direct$icc_adjusted))) {
    raw <- list(marginal = r2$marginal, conditional = r2$conditional, icc_adjusted = icc$adjusted,
                icc_unadjusted = icc$unadjusted)
    if (!is.null(r2$conditional)) r2 <- icc <- NULL
  }
  list(r2 = r2, icc = icc, raw = raw)
}

# Covariance of the fixed effects by Kenward and Roger, and the degrees of freedom of each.
kenward_roger <- function(m) {
  adjusted <- pbkrtest::vcovAdj(m)
  p <- length(fixef(m))
  df <- vapply(seq_len(p), function(i) {
    pbkrtest::Lb_ddf(as.numeric(seq_len(p) == i), vcov(m), adjusted)
  }, 0)
  list(vcov = as.matrix(adjusted), df = df)
}

make_lmm <- function(id, model) {
  records <- list()
  for (method in model$methods) {
    started <- proc.time()[3]
    record <- fit_lmm(id, model, method)
    records[[method]] <- record
    cat(sprintf("%-24s criterion %.8f, gradient %.1e, %.0f s\n", record$id, record$criterion,
                record$optcheck$grad_free_max, proc.time()[3] - started))
  }
  # lme4 profiles the deviance of maximum likelihood for either method.
  limits <- records$ML$profile
  for (record in records) {
    record["profile"] <- NULL
    if (!is.null(limits)) {
      record["confint_profile"] <- list(limits$limits)
      record["profile_warnings"] <- list(limits$warnings)
    }
    write_model(record)
  }
}

fit_lmm <- function(id, model, method) {
  formula <- as.formula(model$formula, env = globalenv())
  data <- read_data(model$data)
  REML <- method == "REML"
  # profile() and other functions evaluate the call of the fit anew, in the global environment.
  assign(".data", data, globalenv())
  assign(".control", lmerControl(optimizer = "newton_search", calc.derivs = nrow(data) < LARGE),
         globalenv())
  SEARCH$starts <- if (nrow(data) > LARGE) 0 else 3
  call <- call("lmer", formula, data = quote(.data), REML = REML)
  call[[1]] <- quote(lme4::lmer)
  if (!is.null(model$weights)) call$weights <- as.name(model$weights)
  if (!is.null(model$offset)) call$offset <- as.name(model$offset)
  default <- noting(eval(call, globalenv()))
  plain <- call
  call$control <- quote(.control)
  fit <- noting(eval(call, globalenv()))
  m <- fit$value
  report <- SEARCH$report
  if (is_error(m)) stop(id, ": ", m)
  theta <- getME(m, "theta")
  is_sd <- getME(m, "lower") == 0
  beta <- fixef(m)
  p <- length(beta)
  V <- as.matrix(vcov(m))
  se <- sqrt(diag(V))
  used <- as.integer(rownames(model.frame(m)))

  tested <- try(lmerTest::as_lmerModLmerTest(m), silent = TRUE)
  coefs <- if (is_error(tested)) NULL else coef(summary(tested))
  table <- if (is_error(tested)) NULL else as.data.frame(noting(anova(tested, type = 3))$value)
  # pbkrtest 0.5.2 ignores prior weights.
  kr <- if (REML && is.null(model$weights)) kenward_roger(m)
  table_kr <- if (!is.null(kr) && p > 1) {
    as.data.frame(anova(tested, type = 3, ddf = "Kenward-Roger"))
  }
  names_py <- py_names(terms(nobars(formula)), getME(m, "X"), data)
  fixed <- rows_of(p, function(i) {
    row <- list(name = names(beta)[i], name_py = unname(names_py[i]), estimate = unname(beta[i]),
                se = unname(se[i]), t = unname(beta[i] / se[i]),
                df_satterthwaite = if (!is.null(coefs)) unname(coefs[i, "df"]),
                p_satterthwaite = if (!is.null(coefs)) unname(coefs[i, "Pr(>|t|)"]))
    if (is.null(kr)) return(c(row, list(se_kr = NULL, t_kr = NULL, df_kr = NULL, p_kr = NULL)))
    t <- unname(beta[i] / sqrt(kr$vcov[i, i]))
    c(row, list(se_kr = sqrt(kr$vcov[i, i]), t_kr = t, df_kr = kr$df[i],
                p_kr = 2 * pt(-abs(t), kr$df[i])))
  })
  f_tests <- if (!is.null(table)) rows_of(nrow(table), function(i) list(
    term = rownames(table)[i], term_py = py_atom(rownames(table)[i]), sumsq = table[i, 1],
    meansq = table[i, 2], numdf = table[i, 3], dendf = table[i, 4], F = table[i, 5], p = table[i, 6]
  ))
  f_tests_kr <- if (!is.null(table_kr)) rows_of(nrow(table_kr), function(i) list(
    term = rownames(table_kr)[i], term_py = py_atom(rownames(table_kr)[i]), numdf = table_kr[i, 3],
    dendf = table_kr[i, 4], F = table_kr[i, 5], p = table_kr[i, 6]
  ))
  direct <- r2_direct(m)
  performance <- r2_performance(m, direct)
  profile <- if (!REML && model$profile && nobs(m) <= LARGE) {
    profile_limits(m, plain, !is.null(model$weights))
  }
  effects <- random_effects(m, formula, data)
  new <- new_rows(m, formula, data, model$offset)
  predicted <- function(re) unname(predict(m, new, re.form = re, allow.new.levels = TRUE))
  # predict(newdata = ) of lme4 1.1-31 leaves out the argument offset.
  offset <- if (is.null(model$offset)) 0 else new[[model$offset]]

  # lme4's criterion at three fixed thetas.
  plain$control <- quote(.control)
  plain$devFunOnly <- TRUE
  criterion <- eval(plain, globalenv())
  thetas <- list(as.numeric(is_sd), theta, theta * 1.25 + ifelse(is_sd, 0.3, 0.1))
  loglik <- logLik(m)
  default_fit <- if (is_error(default$value)) NULL else default$value
  list(
    id = paste0(id, "__", tolower(method)), engine = sprintf("lme4 %s lmer", version_of("lme4")),
    formula = model$formula, formula_py = py_formula(model$formula),
    data = basename(data_file(model$data)), factors = factor_levels(data, all.vars(formula)),
    weights = model$weights, offset = model$offset, REML = REML, nobs = nobs(m),
    n_rows_data = nrow(data), na_rows_dropped = nrow(data) - nobs(m), ngrps = as.list(ngrps(m)),
    fixef = fixed, vcov = mat(V), vcov_kr = if (!is.null(kr)) mat(kr$vcov), theta = arr(theta),
    theta_lower = arr(ifelse(is_sd, 0, NA)), sigma = sigma(m), varcorr = covariance_rows(m),
    loglik = as.numeric(loglik), criterion = criterion_of(m), aic = AIC(m), bic = BIC(m),
    df_model = attr(loglik, "df"), ranef = effects$values, ranef_cond_sd = effects$sds,
    head_rows = arr(head(used, 10) - 1L), fitted_head = arr(head(unname(fitted(m)), 10)),
    fitted_fixed_head = arr(head(unname(predict(m, re.form = NA)), 10)),
    resid_head = arr(head(unname(residuals(m, type = "response")), 10)),
    singular = any(theta[is_sd] < 1e-4), lme4_isSingular = isSingular(m), anova = f_tests,
    anova_kr = f_tests_kr, confint_wald = wald_limits(beta, se), confint_profile = NULL,
    r2_nakagawa = performance$r2, icc = performance$icc,
    r2_performance_raw_if_different = performance$raw, r2_direct = direct,
    predict_new = list(rows = row_records(new), population = arr(predicted(NA) + offset),
                       conditional = arr(predicted(NULL) + offset)),
    devfun_check = arr(lapply(thetas, function(t) list(theta = arr(t), value = criterion(t)))),
    optcheck = report,
    lme4_default = list(criterion = if (!is.null(default_fit)) criterion_of(default_fit),
                        theta = if (!is.null(default_fit)) arr(getME(default_fit, "theta")),
                        messages = arr(as.list(default$notes))),
    polish_messages = arr(as.list(fit$notes)), exercises = model$exercises, note = NULL,
    profile = profile
  )
}
