package agent

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/imds"
)

// turnedAway is what an operator should know of a request that was refused before
// anybody asked for a role; "" for nothing.
func turnedAway(e imds.Exchange) string {
	who := "a caller whom the kernel does not name"
	if e.Caller.Known() {
		who = report.Name(e.Caller)
	}
	switch {
	case e.Status == http.StatusUnauthorized && strings.HasPrefix(e.Path, "/latest"):
		return fmt.Sprintf("requests on listener %s without a valid token are refused, the newest of %s: a program that knows only version 1 of the protocol needs a newer SDK, or tokens = \"optional\" in the configuration", e.Listener, who)
	case e.Status == http.StatusUnauthorized:
		return fmt.Sprintf("requests on listener %s without a valid authorization are refused, the newest of %s: see what gives that program its token", e.Listener, who)
	case e.Status == http.StatusForbidden:
		return fmt.Sprintf("requests on listener %s with another Host, or with marks of a proxy or a browser, are refused, the newest of %s: have that program ask without a proxy, with NO_PROXY=169.254.169.254", e.Listener, who)
	}
	return ""
}

// unrecorded tells the operator that decisions are not on record.
func (r *recorder) unrecorded(err error) {
	effect := "credentials are given all the same"
	if r.required {
		effect = "no credential is given until it can be, because [audit] says required = true"
	}
	r.troubles.Set("audit", fmt.Sprintf("decisions cannot be recorded: %v; %s: make room on its disk, or make the file writable to the daemon", err, effect), r.now())
}
