# Numbers of R that tests quote in their source, printed to be compared with them.

nine <- function(x) sprintf("%.9g", x)
print_rows <- function(title, columns, rows) {
  cat("\n", title, "\n  ", paste(columns, collapse = " "), "\n", sep = "")
  for (i in seq_len(nrow(rows))) cat("  ", toString(nine(unlist(rows[i, columns]))), "\n")
}

# Estimated marginal means, and contrasts of them.
print_emmeans <- function() {
  suppressMessages(library(emmeans))
  fit <- function(id) {
    model <- MODELS[[id]]
    data <- read_data(model$data)
    assign(".data", data, globalenv())
    call <- call("lmer", as.formula(model$formula), data = data,
                 control = lmerControl(optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12)))
    call[[1]] <- quote(lmerTest::lmer)
    if (!is.null(model$offset)) call$offset <- as.name(model$offset)
    eval(call, globalenv())
  }
  means <- function(id, df, specs, at = NULL) {
    emm_options(lmer.df = df)
    emmeans(fit(id), as.formula(paste("~", specs)), at = at)
  }
  show_means <- function(id, df, specs, at = NULL) {
    e <- as.data.frame(summary(means(id, df, specs, at)))
    names(e)[match(c("lower.CL", "upper.CL"), names(e))] <- c("lower", "upper")
    print_rows(paste(id, df, specs, deparse1(at)), c("emmean", "SE", "df", "lower", "upper"), e)
  }
  show_contrasts <- function(id, df, specs, method, adjust, at = NULL) {
    contrasts <- contrast(means(id, df, specs, at), method, adjust = adjust)
    e <- as.data.frame(summary(contrasts, infer = c(TRUE, TRUE)))
    print_rows(paste(id, df, specs, method, adjust, deparse1(at)),
               c("estimate", "SE", "df", "p.value", "lower.CL", "upper.CL"), e)
  }
  S <- "satterthwaite"
  K <- "kenward-roger"
  for (df in c(S, K)) show_means("ratpup", df, "Treatment | sex")
  for (df in c(S, K)) show_means("ratpup", df, "Treatment")
  show_means("ratpup", S, "sex + Lsize", list(Lsize = c(8, 14), Treatment = "High"))
  show_means("na_rows", S, "f")
  show_means("na_rows", K, "f | x", list(x = c(0, 2)))
  show_means("offset", S, "x", list(x = c(0, 1)))
  show_means("offset", K, "1")
  for (df in c(S, K)) show_means("fac_f", df, "f")
  show_contrasts("ratpup", S, "Treatment | sex", "pairwise", "tukey")
  show_contrasts("ratpup", K, "Treatment", "pairwise", "tukey")
  show_contrasts("na_rows", S, "f | x", "pairwise", "tukey", list(x = c(0, 2)))
  show_contrasts("fac_f", S, "f", "revpairwise", "tukey")
  show_contrasts("fac_f", K, "f", "consec", "holm")
  show_contrasts("fac_f", S, "f", "trt.vs.ctrl", "holm")
  show_contrasts("fac_f", K, "f", "eff", "holm")
  show_contrasts("fac_f", S, "f", "poly", "none")
  for (adjust in c("holm", "bonferroni", "sidak", "none", "fdr")) {
    show_contrasts("fac_f", S, "f", "pairwise", adjust)
  }
  show_contrasts("cake_cat", S, "temperature", "poly", "none")
  emm_options(lmer.df = S)
  dummies <- lmerTest::lmer(y ~ dmid + dhi + (1 | g), read_data("facslope"))
  e <- as.data.frame(emmeans(dummies, ~dmid))
  print_rows("facslope, y ~ dmid + dhi + (1 | g), dmid", "emmean", e)
}

# A meta-analysis: the standard errors of the trials are known.
print_metafor <- function() {
  suppressMessages(library(metafor))
  trials <- escalc("RR", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = dat.bcg)
  control <- list(threshold = 1e-14, maxiter = 10000)
  for (mods in c(~1, ~ ablat + year)) {
    fit <- rma(yi, vi, mods = mods, data = trials, method = "REML", control = control)
    cat("\n", deparse1(mods), ", REML: variance ", sprintf("%.15g", fit$tau2), "\n", sep = "")
    rows <- sprintf("  %s %.15g, standard error %.15g", rownames(fit$beta), fit$beta, fit$se)
    writeLines(rows)
  }
  fit <- rma(yi, vi, data = trials, method = "ML", control = control)
  cat(sprintf("\n~1, ML: log-likelihood %.15g\n", as.numeric(logLik(fit))))
}

# Coefficients of the logarithm of the residual variance.
print_glmmtmb <- function() {
  data <- read_data("romcom")
  for (REML in c(FALSE, TRUE)) {
    fit <- glmmTMB::glmmTMB(rating ~ 1 + (1 | friend), data, dispformula = ~kind, REML = REML)
    table <- as.data.frame(summary(fit)$coefficients$disp)
    title <- paste("romcom_kind,", if (REML) "REML" else "ML")
    print_rows(title, c("Estimate", "Std. Error"), table)
  }
}

# Comparison, tests of the random effects and coefficients of sleepstudy, as R prints them.
print_sleepstudy <- function() {
  data <- read_data("sleepstudy")
  assign(".data", data, globalenv())
  fit <- lmerTest::lmer(Reaction ~ Days + (Days | Subject), .data)
  zero <- lmerTest::lmer(Reaction ~ Days + (Days || Subject), .data)
  print(suppressMessages(anova(fit, zero)))
  print(ranova(fit))
  print(coef(summary(fit)))
}

TABLES <- list(emmeans = print_emmeans, metafor = print_metafor, glmmTMB = print_glmmtmb,
               sleepstudy = print_sleepstudy)
