package admin

import "time"

// A History is what has happened lately, as far as the daemon remembers it:
// about a day, and nothing from before its start. It may gain fields; those
// that are there keep their names and meanings while Version is 1.
type History struct {
	Version   int       `json:"version"` // of this form: 1
	Time      time.Time `json:"time"`    // of the daemon's clock
	Roles     []Past    `json:"roles"`   // by name; one of a session under many names
	TallySpan float64   `json:"tally_seconds"`
	Tallies   []Tally   `json:"tallies"` // oldest first, without those in which nobody asked
}

// A Past is what has happened to one role.
type Past struct {
	Role    string   `json:"role"`
	Lives   []Life   `json:"lives"`   // of its credentials, oldest first
	Outages []Outage `json:"outages"` // of its upstream, oldest first
}

// A Life is that of one credential.
type Life struct {
	Credential string     `json:"credential"` // id
	Issued     time.Time  `json:"issued"`
	Expires    *time.Time `json:"expires,omitempty"`  // absent for one that never does
	Replaced   *time.Time `json:"replaced,omitempty"` // when another was served in its place; absent while it is the newest
}

// An Outage is a row of renewals that failed.
type Outage struct {
	From     time.Time  `json:"from"`            // the first failure
	Until    *time.Time `json:"until,omitempty"` // the success that ended it; absent while it lasts
	Failures int        `json:"failures"`
	Error    string     `json:"error"` // of the newest
}

// A Tally is the number of answers to callers within a span of time.
type Tally struct {
	From    time.Time `json:"from"`
	Granted int       `json:"granted"`
	Denied  int       `json:"denied"`
	Failed  int       `json:"failed"` // refused by the upstream, or not ready
}
