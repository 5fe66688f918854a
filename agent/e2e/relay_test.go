//go:build linux

package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A relay has the metadata service's address and passes requests on to a
// hostrole that has another one. So one hostrole can take another's place at an
// exact point: between two requests of a client.
type relay struct {
	mu    sync.Mutex
	to    string   // the hostrole's address; guarded by mu
	next  string   // takes its place when what is named by after was answered; guarded by mu
	after string   // "list" of roles, or "token"; guarded by mu
	asked []string // guarded by mu
}

// newRelay listens until the test ends.
func newRelay(t *testing.T) *relay {
	t.Helper()
	ip(t, "addr", "add", metadataHost+"/32", "dev", "lo")
	t.Cleanup(func() { ip(t, "addr", "del", metadataHost+"/32", "dev", "lo") })
	l, err := net.Listen("tcp4", metadataHost+":80")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { r.pass(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return r
}

const goOn = "HTTP/1.1 100 Continue\r\n\r\n"

var hostLine = regexp.MustCompile(`(?i)\r\nhost:[^\r]*`)

// pass relays the one exchange of a connection. Where it cannot, it closes.
func (r *relay) pass(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		head.WriteString(line)
	}
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	up, err := net.Dial("tcp4", to)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	if _, err := io.WriteString(up, hostLine.ReplaceAllString(head.String(), "\r\nHost: "+to)); err != nil {
		return
	}
	var body sync.WaitGroup
	body.Go(func() { _, _ = io.Copy(up, in) })
	defer body.Wait()
	defer func() { _ = conn.Close() }() // ends it
	out := bufio.NewReader(up)
	if told, _ := out.Peek(len(goOn)); string(told) == goOn { // and waits for a body
		_, _ = out.Discard(len(goOn))
		_, _ = io.WriteString(conn, goOn)
	}
	answer, err := io.ReadAll(out)
	if err != nil {
		return
	}
	r.note(head.String(), string(answer))
	_, _ = conn.Write(answer)
}

// note is called before the client has its answer.
func (r *relay) note(head, answer string) {
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	status := strings.Fields(answer + " - -")[1]
	if err != nil {
		return
	}
	path := request.URL.Path
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, fmt.Sprintf("%s %s %s", request.Method, roleName.ReplaceAllString(path, "${1}ROLE"), status))
	end := map[string]string{"list": "/iam/security-credentials", "token": "/api/token"}[r.after]
	if r.next != "" && status == "200" && strings.HasSuffix(strings.TrimSuffix(path, "/"), end) {
		r.to, r.next = r.next, ""
	}
}

// turn begins a client's turn: what it asks goes to one hostrole and, unless
// next is "", to that one as soon as the client has the list of its roles or, if
// it asks for none, its token.
func (r *relay) turn(to, next string, c sdk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to, r.next, r.asked, r.after = to, next, nil, "list"
	if c.sure {
		r.after = "token"
	}
}

// end ends a turn. It returns what was asked, and whether the change that was
// to come has come.
func (r *relay) end() (asked []string, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked), r.next == ""
}
