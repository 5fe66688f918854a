package rotation

const Nap = nap
