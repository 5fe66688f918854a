package samlp

// Read is what a response says.
var Read = read

// CutOut cuts the first element of that name out of a document; nil when there
// is none.
func CutOut(doc []byte, local string) ([]byte, error) {
	root, err := parse(doc)
	if err != nil {
		return nil, err
	}
	if e := find(root, local); e != nil {
		return e.cut(), nil
	}
	return nil, nil
}

// Shape writes the names, attributes and texts of a document, as they are
// understood.
func Shape(doc []byte) (string, error) {
	root, err := parse(doc)
	if err != nil {
		return "", err
	}
	return shape(root), nil
}

func find(e *element, local string) *element {
	if e.name.Local == local {
		return e
	}
	for _, c := range e.children {
		if found := find(c, local); found != nil {
			return found
		}
	}
	return nil
}

func shape(e *element) string {
	s := "<" + e.name.Space + " " + e.name.Local
	for _, a := range e.attrs {
		if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
			s += " " + a.Name.Space + " " + a.Name.Local + "=" + a.Value
		}
	}
	s += ">" + e.ownText()
	for _, c := range e.children {
		s += shape(c)
	}
	return s
}
