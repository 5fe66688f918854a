package imds

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Guard refuses, before any routing, what no SDK sends: requests by way of a
// proxy, from a browser, or under a name that somebody else's DNS chose.
type Guard struct {
	hosts   []string // lower case
	anyHost bool     // the handler looks at it
	chunked string   // the path whose PUT may have an empty body in chunks; "" for none
	strict  bool
}

// NewGuard returns the guard of a listener on addrs. With strict, the headers
// of proxies and browsers are refused on every method; without, as on EC2,
// only X-Forwarded-For and only on a PUT.
func NewGuard(addrs []netip.AddrPort, strict bool) Guard {
	g := Guard{strict: strict}
	for _, a := range addrs {
		names := []string{"instance-data", "instance-data.ec2.internal"}
		if a.Addr().IsLoopback() {
			names = append(names, "localhost")
		}
		if ip := a.Addr(); ip.Is6() {
			names = append(names, "["+ip.String()+"]")
		} else {
			names = append(names, ip.String())
		}
		for _, n := range names {
			g.hosts = append(g.hosts, n+":"+strconv.Itoa(int(a.Port())))
			// A client leaves out the port when it is 80; on any other port,
			// it is part of every Host that an honest client sends.
			if a.Port() == 80 {
				g.hosts = append(g.hosts, n)
			}
		}
	}
	slices.Sort(g.hosts)
	g.hosts = slices.Compact(g.hosts)
	return g
}

// AnyHost returns a guard that leaves the Host to the handler, which has an
// answer of its own for a wrong one.
func (g Guard) AnyHost() Guard { g.anyHost = true; return g }

// EmptyChunks returns a guard that lets a PUT of path, and nothing else, have
// the transfer coding "chunked", if no chunk comes: so does libcurl with a PUT
// that has neither body nor length, and s3fs with it. Nothing can
// hide in such a body. It has one form, and ends before the request is served;
// what follows it is never read as a request.
func (g Guard) EmptyChunks(path string) Guard { g.chunked = path; return g }

// proxied and browsing are headers of what stands between a workload and us.
// Sec-Fetch-Mode is absent: Node's own fetch sends it.
var (
	proxied = []string{"x-forwarded-for", "forwarded", "via", "x-forwarded", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-server",
		"x-forwarded-port", "x-real-ip", "true-client-ip", "cf-connecting-ip", "x-client-ip", "x-original-host", "proxy-authorization", "proxy-connection"}
	browsing = []string{"origin", "referer", "cookie", "access-control-request-method", "access-control-request-headers",
		"access-control-request-private-network", "sec-fetch-site", "sec-fetch-dest", "sec-fetch-user"}
)

// check applies the rules in the order of EC2's own: Host, then headers. A
// header counts when it is there, even empty.
func (g Guard) check(r *Request) refusal {
	if r.chunked && (g.chunked == "" || r.Method != "PUT" || r.Path != g.chunked) {
		return 400
	}
	switch host, n := r.Lookup("host"); {
	case n > 1, n == 0 && r.minor == 1:
		return 400
	case n == 1 && !g.anyHost && !g.knows(host):
		return 403
	}
	if r.Method == "PUT" {
		if _, n := r.Lookup("x-forwarded-for"); n > 0 {
			return 403
		}
	}
	if !g.strict {
		return accepted
	}
	for i := range r.fields {
		if name := r.fields[i].Name; suspicious(name) {
			return 403
		}
	}
	return accepted
}

func (g Guard) knows(host string) bool {
	if _, found := slices.BinarySearch(g.hosts, host); found {
		return true
	}
	_, found := slices.BinarySearch(g.hosts, strings.ToLower(host))
	return found
}

func suspicious(name string) bool {
	is := func(lower string) bool { return equalFold(name, lower) }
	switch name[0] | 0x20 {
	case 'x', 'f', 'v', 't', 'c', 'p', 'o', 'r', 'a', 's': // the first letters of both lists
		return slices.ContainsFunc(proxied, is) || slices.ContainsFunc(browsing, is)
	}
	return false
}
