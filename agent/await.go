package agent

// await has the rotation know that somebody waits for a role; "" is for the first
// that the rules give.
func (op *operator) await(role string) {
	g := op.now()
	if role == "" {
		role = g.cfg.Allow[0].Roles[0]
	}
	if r, err := g.named(role); err == nil {
		op.a.manager.Ask(r.Job.Key)
	}
}
