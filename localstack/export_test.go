package localstack

// BalancerConfiguration is what a balancer runs with.
func BalancerConfiguration(linux bool, listen, nobody string, agents ...string) (string, error) {
	return balancer{Linux: linux, Listen: listen, Nobody: nobody, Agents: agents}.configuration()
}

// ProgramOf is the path of an installed engine's program.
func ProgramOf(engine Engine) (string, error) {
	c, err := find(engine)
	return c.path, err
}
