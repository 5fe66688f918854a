package redirect

// NewUnowned is New on a kernel whose tables have no owners.
func NewUnowned(o Options) (*Redirect, error) { return newRedirect(o, 0) }
