"""Makes record sets by Apache Beam, on as many machines as its runner has.

The list, the videos and the folder of the set must be where all of them can reach them.
"""

from mvit_tf.data.records.shards import Unfinished, encode_member, write_shard
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.errors import UserError


class BeamShards:
    """Makes files by a Beam pipeline, each on one of its workers.

    Args:
        runner: str, Beam's name of the runner, such as "DirectRunner".
        pipeline_options: list of str, its options as on a command line.
        time_limit: float, seconds without a frame after which a decoder is stopped.

    Raises:
        UserError: Beam is not installed, or has no such runner.
    """

    def __init__(self, runner, pipeline_options, time_limit):
        try:
            from apache_beam.runners import create_runner
        except ImportError:
            raise UserError(
                f"--runner={runner} needs Apache Beam: pip install 'mvit_tf[beam]'"
            ) from None
        try:
            create_runner(runner)
        except (ValueError, ImportError) as error:
            raise UserError(f"--runner={runner}: {error}") from None
        self._options = [f"--runner={runner}", *pipeline_options]
        self._time_limit = time_limit

    def __call__(self, plan, numbers, finish, advance):
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        time_limit, unfinished = self._time_limit, Unfinished(plan)

        def make(number):
            # One video at a time: Beam itself runs as many of these as there are processors.
            with DecodeWorkers(1, time_limit=time_limit) as workers:
                made = (encode_member(plan, index, workers.run) for index in plan.members[number])
                unfinished.finish(number, write_shard(plan, number, made))

        if numbers:
            with beam.Pipeline(options=PipelineOptions(self._options)) as pipeline:
                # Shuffled anew, or all of them might stay where they were listed.
                _ = (
                    pipeline
                    | "files" >> beam.Create(numbers)
                    | "spread" >> beam.Reshuffle()
                    | "prepare" >> beam.Map(make)
                )
        for number in numbers:
            shard = unfinished.shard(number)
            if shard is None:
                raise UserError(
                    f"{plan.output}: {plan.shard_name(number)} was made by a worker, and is not "
                    "there: the folder must be the same for all machines"
                )
            finish(number, shard)
            advance(len(plan.members[number]))
