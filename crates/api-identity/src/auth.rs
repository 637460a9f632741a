//! `/auth`: tokens, and what one can get a token for.

mod body;
mod request;

use std::sync::Arc;

use api::extract::TOKEN_BYTES_MAX;
use api::{Caller, Dialect, Fault, Json, RequestCx, Routes};
use axum::extract::State;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use identity::login::LoginError;
use identity::token::Place;
use identity::{AuthError, Identity, Verified};
use serde_json::{Value, json};

use crate::list::{self, Filters};
use crate::shape::base;
use crate::{Cloud, policy, projects};

const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");
const REFUSED: &str = "The request you have made requires authentication.";

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone)
        .post("/auth/tokens", issue)
        .get("/auth/tokens", show)
        .delete("/auth/tokens", revoke)
        .get("/auth/catalog", catalog)
        .get("/auth/projects", projects)
        .get("/auth/domains", domains)
        .get("/auth/system", system)
}

type TokenAnswer = (StatusCode, [(HeaderName, HeaderValue); 1], Json<Value>);

fn token_header(token: &str) -> Result<[(HeaderName, HeaderValue); 1], Fault> {
    let value = HeaderValue::from_str(token).map_err(|_| Fault::bad_request("The token is not text."))?;
    Ok([(SUBJECT, value)])
}

async fn issue(
    State(cloud): Cloud,
    cx: RequestCx,
    filters: Filters,
    Json(request): Json<request::Body>,
) -> Result<TokenAnswer, Fault> {
    let (proofs, wish) = request.read()?;
    let (token, verified) = cloud.login(&proofs, &wish).await.map_err(|error| {
        tracing_refusal(&cx, &error);
        refusal(error)
    })?;
    let body = answer(&cloud, &verified, &filters).await?;
    Ok((StatusCode::CREATED, token_header(&token)?, Json(body)))
}

/// The client learns nothing of the reason, operators do.
fn tracing_refusal(cx: &RequestCx, error: &LoginError) {
    tracing::info!(request_id = %cx.request_id, %error, "no token was issued");
}

fn refusal(error: LoginError) -> Fault {
    match error {
        LoginError::Refused(_) => Fault::unauthorized(REFUSED),
        LoginError::Forbidden(why) => Fault::forbidden(why),
        LoginError::Busy(_) => Fault::unavailable("Too many logins at the moment. Try again soon."),
        LoginError::Read(error) => error.into(),
        LoginError::Damaged(error) => error.into(),
    }
}

async fn answer(cloud: &Identity, verified: &Verified, filters: &Filters) -> Result<Value, Fault> {
    let scoped = verified.claims.place != Place::Nowhere;
    let catalog = if scoped && list::get(filters, "nocatalog").is_none() { Some(cloud.catalog().await?) } else { None };
    Ok(body::token(verified, catalog.as_deref()))
}

/// The token that a request is about, which only its owner and administrators may ask about.
async fn subject(caller: &Caller, cloud: &Identity, headers: &HeaderMap) -> Result<(String, Arc<Verified>), Fault> {
    let subject = headers.get(SUBJECT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let none = || Fault::not_found("Could not find token in the header X-Subject-Token.");
    if subject.is_empty() || subject.len() > TOKEN_BYTES_MAX {
        return Err(none());
    }
    let verified = match cloud.inspect(subject).await {
        Ok(verified) => verified,
        Err(AuthError::Invalid(_)) => return Err(none()),
        Err(error @ AuthError::NotNow(_)) => return Err(error.into()),
    };
    let own = verified.caller.user_id == caller.user_id || caller.has_role("service");
    policy::admin_or(own, caller, "validate_token")?;
    Ok((subject.to_owned(), verified))
}

async fn show(caller: Caller, State(cloud): Cloud, headers: HeaderMap, filters: Filters) -> Result<TokenAnswer, Fault> {
    let (token, verified) = subject(&caller, &cloud, &headers).await?;
    Ok((StatusCode::OK, token_header(&token)?, Json(answer(&cloud, &verified, &filters).await?)))
}

async fn revoke(caller: Caller, State(cloud): Cloud, headers: HeaderMap) -> Result<StatusCode, Fault> {
    let (_, verified) = subject(&caller, &cloud, &headers).await?;
    cloud.revoke(&verified).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn catalog(caller: Caller, cx: RequestCx, State(cloud): Cloud) -> Result<Json<Value>, Fault> {
    if caller.project.is_none() && caller.domain.is_none() && !caller.is_system() {
        return Err(Fault::forbidden("This token has no scope, so there is no catalog for it."));
    }
    let catalog = body::catalog(&cloud.catalog().await?);
    Ok(Json(json!({ "catalog": catalog, "links": { "self": format!("{}/auth/catalog", base(&cx)) } })))
}

async fn projects(caller: Caller, cx: RequestCx, State(cloud): Cloud, filters: Filters) -> Result<Json<Value>, Fault> {
    let mut found = cloud.projects_of(caller.user_id.as_str()).await?;
    found.retain(|project| project.enabled && !project.deleting);
    list::answer(&cx, "/auth/projects", &filters, projects::FIELDS, &found)
}

async fn domains(caller: Caller, cx: RequestCx, State(cloud): Cloud, filters: Filters) -> Result<Json<Value>, Fault> {
    let mut found = cloud.domains_of(caller.user_id.as_str()).await?;
    found.retain(|domain| domain.enabled && !domain.deleting);
    list::answer(&cx, "/auth/domains", &filters, &["name", "enabled"], &found)
}

async fn system(caller: Caller, cx: RequestCx, State(cloud): Cloud) -> Result<Json<Value>, Fault> {
    let has = cloud.has_system_role(caller.user_id.as_str()).await?;
    let system = if has { json!([{ "all": true }]) } else { json!([]) };
    Ok(Json(json!({ "system": system, "links": { "self": format!("{}/auth/system", base(&cx)) } })))
}
