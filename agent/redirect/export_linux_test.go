package redirect

// Crash ends r as a crash does: nothing of it runs, and nothing is cleared away.
func (r *Redirect) Crash() error { return r.kernel.conn.CloseLasting() }

// Explain and Lacking say what to do about an error of the kernel.
var Explain, Lacking = explain, lacking
