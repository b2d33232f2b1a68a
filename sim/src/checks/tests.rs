//! Each check is handed a history that is wrong and must find it.
