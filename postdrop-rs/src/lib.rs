//! Submission: sendmail and postdrop
