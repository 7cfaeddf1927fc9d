# Slopes, contrasts, weights and joint tests of R's emmeans: writes tests/reference/marginal_effects.json.
# From the root of the repository: Rscript tests/reference/r/marginal_effects.R
# Made with R 4.2.2, emmeans 1.8.4-1, lme4 1.1-31, lmerTest 3.1-3, pbkrtest 0.5.2, glmmTMB 1.1.5.
# emmeans' slopes are forward differences: where the mean is curved the step is small here.
suppressMessages({library(lme4);library(lmerTest);library(emmeans);library(glmmTMB);library(jsonlite)})
data <- function(name) file.path("tests/reference/data", name)
tight <- lmerControl(optimizer="nloptwrap", optCtrl=list(xtol_abs=1e-12, ftol_abs=1e-12))
emm_options(lmerTest.limit=1e5, pbkrtest.limit=1e5)
cake <- read.csv(data("cake.csv")); cake$recipe <- factor(cake$recipe); cake$replicate <- factor(cake$replicate)
pup <- read.csv(data("RatPupWeight.csv"), stringsAsFactors=TRUE)
sleep <- read.csv(data("sleepstudy.csv")); sleep$Subject <- factor(sleep$Subject)
cb <- read.csv("datasets/cbpp.csv"); cb$period <- factor(cb$period); cb$herd <- factor(cb$herd); cb$z <- seq_len(nrow(cb)) %% 7
fits <- list(
 sleep = lmer(Reaction ~ Days + (Days|Subject), sleep, control=tight),
 sleep2 = lmer(Reaction ~ Days + I(Days^2) + (Days|Subject), sleep, control=tight),
 cake = lmer(angle ~ recipe * (temp + I(temp^2)) + (1|recipe:replicate), cake, control=tight),
 cakelin = lmer(angle ~ recipe * temp + (1|recipe:replicate), cake, control=tight),
 cakelog = lmer(log(angle) ~ recipe * temp + (1|recipe:replicate), cake, control=tight),
 cakesqrt = lmer(sqrt(angle) ~ recipe + temp + (1|recipe:replicate), cake, control=tight),
 pup = lmer(weight ~ Treatment * sex + Lsize + (1|Litter), pup, control=tight),
 pupx = lmer(weight ~ Treatment * log(Lsize) + sex + (1|Litter), pup, control=tight),
 cbpp = glmmTMB(cbind(incidence, size-incidence) ~ period * z + (1|herd), cb, binomial)
)
out <- list()
add <- function(name, x) { d <- as.data.frame(x); out[[name]] <<- d; invisible() }
for (df in c("satterthwaite","kenward-roger")) {
  emm_options(lmer.df=df)
  tr <- function(f, by, var, ..., delta=1e-3) emtrends(fits[[f]], by, var=var, delta.var=delta, ...)
  T <- function(n,x) add(paste(n,df,sep="/"), summary(x, infer=c(TRUE,TRUE)))
  T("slopes/sleep", tr("sleep",~1,"Days"))
  T("slopes/sleep2@2", tr("sleep2",~1,"Days",at=list(Days=2),delta=1e-5))
  T("slopes/cake", tr("cake",~recipe,"temp",delta=1e-4))
  T("slopes/cake@180", tr("cake",~recipe,"temp",at=list(temp=180),delta=1e-4))
  T("slopes/pupx", tr("pupx",~Treatment,"Lsize",delta=1e-5))
  T("slopes/cakelin", tr("cakelin",~recipe,"temp"))
  T("slopes/cakelin/pairs", pairs(tr("cakelin",~recipe,"temp")))
  T("slopes/pupx/dunnett", contrast(tr("pupx",~Treatment,"Lsize",delta=1e-5),"trt.vs.ctrl"))
  e <- emmeans(fits$pup, ~Treatment*sex)
  T("inter/pairwise", contrast(e, interaction="pairwise"))
  T("inter/trt-consec", contrast(e, interaction=c("trt.vs.ctrl","consec")))
  e <- emmeans(fits$cake, ~recipe*temp, at=list(temp=c(175,195,225)))
  T("inter/cake-poly", contrast(e, interaction=c("eff","poly")))
  for (w in c("equal","proportional","outer","cells","flat")) T(paste0("weights/",w), emmeans(fits$pup, ~Treatment, weights=w))
  for (w in c("proportional","outer","cells")) T(paste0("weights-all/",w), emmeans(fits$pup, ~1, weights=w))
  T("median", emmeans(fits$pupx, ~Treatment, cov.reduce=median))
  T("range", emmeans(fits$pupx, ~Treatment|Lsize, cov.reduce=range))
  m <- emmeans(fits$pup, ~Treatment)
  for (a in c("mvt","dunnettx","scheffe")) { set.seed(1); T(paste0("adjust/ctrl/",a), contrast(m,"trt.vs.ctrl",adjust=a)) }
  set.seed(1); T("adjust/pairs/mvt", contrast(m,"pairwise",adjust="mvt"))
  T("adjust/pairs/scheffe", contrast(m,"pairwise",adjust="scheffe"))
  T("contr/mean_chg", contrast(m,"mean_chg",adjust="none"))
  T("contr/del.eff", contrast(m,"del.eff",adjust="none"))
  T("contr/ctrlk", contrast(m,"trt.vs.ctrlk",adjust="none"))
  T("contr/ref2", contrast(m,"trt.vs.ctrl",ref=2,adjust="none"))
  T("contr/own", contrast(m,list(hl=c(0,1,-1)),adjust="none"))
  s2 <- function(f) { vc <- as.data.frame(VarCorr(f)); sqrt(sum(vc$vcov)) }
  add(paste("back/log",df,sep="/"), summary(emmeans(fits$cakelog,~recipe),type="response"))
  add(paste("back/sqrt",df,sep="/"), summary(emmeans(fits$cakesqrt,~recipe),type="response"))
  add(paste("bias/log",df,sep="/"), summary(emmeans(fits$cakelog,~recipe),type="response",bias.adjust=TRUE,sigma=s2(fits$cakelog)))
  add(paste("bias/sqrt",df,sep="/"), summary(emmeans(fits$cakesqrt,~recipe),type="response",bias.adjust=TRUE,sigma=s2(fits$cakesqrt)))
  add(paste("back/logratio",df,sep="/"), summary(pairs(emmeans(fits$cakelog,~recipe)),type="response",infer=c(TRUE,TRUE)))
  T("regrid/log", regrid(emmeans(fits$cakelog,~recipe)))
  T("regrid/log/pairs", pairs(regrid(emmeans(fits$cakelog,~recipe)), adjust="none"))
  add(paste("jt/pup",df,sep="/"), joint_tests(fits$pup))
  add(paste("jt/pupby",df,sep="/"), joint_tests(fits$pup,by="sex"))
  add(paste("jt/cake",df,sep="/"), joint_tests(fits$cakelin))
}
E <- function(n,x) add(n, summary(x, infer=c(TRUE,TRUE)))
E("glmer/linear", emtrends(fits$cbpp, ~period, var="z"))
E("glmer/mean", emtrends(fits$cbpp, ~period, var="z", regrid="response", delta.var=1e-4))
E("glmer/mean/all", emtrends(fits$cbpp, ~1, var="z", regrid="response", delta.var=1e-4))
E("glmer/mean/pairs", pairs(emtrends(fits$cbpp, ~period, var="z", regrid="response", delta.var=1e-4)))
E("regrid/cbpp", regrid(emmeans(fits$cbpp, ~period)))
E("regrid/cbpp/pairs", pairs(regrid(emmeans(fits$cbpp, ~period))))
add("jt/cbpp", joint_tests(fits$cbpp))
write(toJSON(out, digits=NA, auto_unbox=TRUE, pretty=FALSE, na="string"), "tests/reference/marginal_effects.json")
