//! Agency push: `POST /api/v1/messages`.
