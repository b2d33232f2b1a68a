//! JSON in the body of a request, refused as every path refuses.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::refuse;

/// A body that must be there.
pub(super) struct Given<T>(pub(super) T);

/// A body that may be left out.
pub(super) struct GivenOrDefault<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Given<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let given = <Json<T> as FromRequest<S>>::from_request(request, state).await;
        given.map(|Json(body)| Self(body)).map_err(|rejection| refused(&rejection))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for GivenOrDefault<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let given = <Json<T> as OptionalFromRequest<S>>::from_request(request, state).await;
        let given = given.map(|body| body.map(|Json(body)| body).unwrap_or_default());
        given.map(Self).map_err(|rejection| refused(&rejection))
    }
}

pub(super) fn refused(rejection: &JsonRejection) -> Response {
    refuse(rejection.status(), &rejection.body_text())
}
