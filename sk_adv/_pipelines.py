"""Pipelines: their steps, as far as they take part in a prediction."""


def active_steps(pipeline):
    """The steps of a pipeline that do something when it predicts."""
    # Like imbalanced-learn's pipelines, which leave samplers out then.
    return [
        step
        for _, step in pipeline.steps
        if step is not None and step != "passthrough" and not hasattr(step, "fit_resample")
    ]
