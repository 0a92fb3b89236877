//! The end-to-end suite.
//!
//! | module | shows |
//! |---|---|
//! | [`tidy`] | the house rules hold in every file of the workspace |

mod tidy;
