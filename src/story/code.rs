//! The words that machines read: what can be the matter with an alert, each with its number on disk.

/// Declares the codes: number on disk, name in the API.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What is the matter. The numbers are in files and never change their meaning.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// Every code, for documentation and tests.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(super) const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// Nothing is known.
    #[default]
    Unknown = 0, "unknown";

    // Why an expression gives no alert.
    ThresholdNotCrossed = 1, "threshold_not_crossed";
    NoSeries = 2, "no_series";
    LookbackGap = 3, "lookback_gap";
    SeriesStale = 4, "series_stale";
    TargetDown = 5, "target_down";
    NoJoinPartner = 6, "no_join_partner";
    /// The right side of `unless` has it.
    Excluded = 7, "excluded_by_unless";
    /// `absent()` of something that is there.
    Present = 8, "series_present";
    TooFewSamples = 9, "too_few_samples";
    LabelChurn = 10, "label_churn";
    ExpressionFalse = 11, "expression_false";
    /// The expression gives alerts, but none with these labels.
    OtherLabels = 12, "other_labels";

    // The state of an alert.
    ExpressionTrue = 20, "expression_true";
    ForReached = 21, "for_reached";
    ForNotReached = 22, "for_not_reached";
    ForReset = 23, "for_reset";
    ForChanged = 24, "for_changed";
    KeepFiringFor = 25, "keep_firing_for";
    LimitExceeded = 26, "limit_exceeded";
    RuleError = 27, "rule_error";
    RuleRemoved = 28, "rule_removed";
    RuleChanged = 29, "rule_changed";
    Restarted = 30, "restarted";
    Restored = 31, "restored";
    Flapping = 32, "flapping";
    NoRule = 33, "no_such_rule";
    NotEvaluated = 34, "not_evaluated";
    Resolved = 35, "resolved";

    // Between a rule and an Alertmanager.
    NotFiring = 40, "not_firing";
    RelabelledAway = 41, "relabelled_away";
    NoAlertmanager = 42, "no_alertmanager";
    Posted = 43, "posted";
    PostFailed = 44, "alertmanager_failed";
    QueueOverflow = 45, "queue_overflow";
    Queued = 46, "queued";
    NotSent = 47, "not_handed_over";

    // In the built-in Alertmanager.
    GroupWait = 60, "group_wait";
    GroupInterval = 61, "group_interval";
    Passed = 62, "passed";
    Inhibited = 63, "inhibited";
    Silenced = 64, "silenced";
    SilenceExpired = 65, "silence_expired";
    MuteInterval = 66, "mute_time_interval";
    ActiveInterval = 67, "outside_active_time_interval";
    Delivered = 68, "delivered";
    AlreadyTold = 69, "repeat_interval";
    SendResolvedFalse = 70, "send_resolved_false";
    ResolvedUntold = 71, "resolved_before_notified";
    Retrying = 72, "receiver_retrying";
    ReceiverFailed = 73, "receiver_failed";
    ReceiverRefused = 74, "receiver_refused";
    NullReceiver = 75, "null_receiver";
    ResolveTimeout = 76, "resolve_timeout";
    ClockSkew = 77, "clock_skew";
    TemplateError = 78, "template_error";
    Refused = 79, "alert_refused";
    Sending = 80, "sending";
}
