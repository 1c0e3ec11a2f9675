-- publish: lets the held jobs of a workflow go, those of later calls as well.
-- Keys: wf:<workflow>, workflows, hold:<workflow>, and those of the jobs that go. Work: 256 jobs; the rest follows.
-- ARGV: now, workflow.
use('workflows').publish(ARGV[2])
use('endings').write()
ring()
return 1
